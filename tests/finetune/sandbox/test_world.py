"""The sandbox world: the same for a seed, exact, readable by the data sets' own readers, and not easy."""

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from namepin.evals.datasets.check import check_folder
from namepin.evals.run import load_dataset, recorded_knowledge
from namepin.finetune.sandbox.baselines import gmner_f1
from namepin.finetune.sandbox.kinds import KINDS
from namepin.finetune.sandbox.names import ORDINARY, words_of
from namepin.finetune.sandbox.posts import posts
from namepin.finetune.sandbox.write import write_world
from namepin.tools.captioner.config import RecordedCaptionerConfig
from namepin.tools.captioner.recorded import read_captions
from namepin.tools.errors import NamepinError
from support.waiting import wait_until

COUNTS = {"train": 150, "dev": 40, "test": 120}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    write_world(root, COUNTS, 3, quiet=True)
    return root


def digest(root: Path) -> str:
    sums = hashlib.sha256()
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        sums.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return sums.hexdigest()


def test_write_world_with_same_seed_writes_same_bytes(tmp_path: Path) -> None:
    few = {"train": 6, "dev": 2, "test": 2}
    for name, seed in (("one", 5), ("two", 5), ("three", 6)):
        write_world(tmp_path / name, few, seed, quiet=True)
    assert digest(tmp_path / "one") == digest(tmp_path / "two") != digest(tmp_path / "three")
    longer = {post.id: post.tokens for post in posts("train", 9, words_of(5)["train"], 5)}
    shorter = {post.id: post.tokens for post in posts("train", 6, words_of(5)["train"], 5)}
    assert shorter == dict(list(longer.items())[:6])


@pytest.mark.parametrize("name", ["gmner", "fmnerg", "smner", "sandbox"])
def test_sandbox_world_loads_in_every_reader_without_problem(world: Path, name: str) -> None:
    for split, count in COUNTS.items():
        dataset = load_dataset(name, world, split)
        assert dataset.problems == () and len(dataset.posts) == count and dataset.has_images
        assert len(recorded_knowledge(world, split, dataset)) > 0.9 * count
    assert check_folder(world, name).sound


def test_sandbox_captions_load_as_recorded_captions(world: Path) -> None:
    for length in ("short", "long"):
        config = RecordedCaptionerConfig(file=str(world / f"captions/{length}-dev.jsonl"), images=str(world / "images"))
        assert len(read_captions(config)) == COUNTS["dev"]


def test_sandbox_masks_fill_their_boxes_exactly(world: Path) -> None:
    seen = 0
    for gold in load_dataset("sandbox", world, "test").posts:
        for entity in gold.entities:
            assert bool(entity.boxes) == bool(entity.masks)
            for box, mask in zip(entity.boxes or (), entity.masks or (), strict=True):
                assert mask.tight_box() == box and mask.size == (gold.size[1], gold.size[0]) if gold.size else False
                seen += 1
    assert seen > 50


def test_sandbox_names_are_disjoint_between_splits(world: Path) -> None:
    tails = {kind.tail for kind in KINDS}
    named = {
        split: {
            token
            for gold in load_dataset("sandbox", world, split).posts
            for entity in gold.entities
            for token in entity.text.split()
        }
        - tails
        for split in COUNTS
    }
    assert not named["train"] & named["test"] and not named["train"] & named["dev"] and not named["dev"] & named["test"]
    words = words_of(3)
    every = [word.lower() for split in words.values() for word in split]
    assert len(every) == len(set(every)) and not set(every) & ORDINARY


def test_sandbox_shares_of_groundable_small_and_shared_names_are_in_range(tmp_path: Path) -> None:
    write_world(tmp_path / "world", {"train": 500, "dev": 1, "test": 1}, 11, quiet=True)
    dataset = load_dataset("sandbox", tmp_path / "world", "train")
    every = [(gold, entity) for gold in dataset.posts for entity in gold.entities]
    shown = [(gold, entity) for gold, entity in every if entity.groundable]
    assert 0.56 < 1 - len(shown) / len(every) < 0.68
    assert 0.15 < np.mean([gold.is_small(entity) for gold, entity in shown]) < 0.45
    assert len({entity.fine for _, entity in every}) == len(KINDS)
    several = [gold for gold in dataset.posts if sum(entity.groundable for entity in gold.entities) > 1]
    assert len(several) > 40
    types: dict[str, set[str | None]] = {}
    for _, entity in every:
        for token in entity.text.split():
            types.setdefault(token, set()).add(entity.label)
    assert sum(len(labels) > 1 for labels in types.values()) > 10, "names that several types share"


def test_sandbox_knowledge_is_right_wrong_or_missing_in_set_shares(world: Path) -> None:
    right = wrong = unknown = 0
    for split in COUNTS:
        known = recorded_knowledge(world, split, dataset := load_dataset("sandbox", world, split))
        for gold in dataset.posts:
            for entity in gold.entities:
                said = known[gold.post.text].split("Reasoning")[0]
                if f"{entity.text} (" not in said:
                    unknown += 1
                elif f"{entity.text} ({entity.label}/{entity.fine})" in said:
                    right += 1
                else:
                    wrong += 1
    total = right + wrong + unknown
    assert 0.7 < right / total < 0.85 and 0 < wrong / total < 0.08 and 0.12 < unknown / total < 0.3


def test_sandbox_description_oracle_beats_simple_baselines(world: Path) -> None:
    found = gmner_f1(world, "test")
    assert found["oracle: what is described"] > 0.93
    easy = [score for name, score in found.items() if not name.startswith("oracle")]
    assert max(easy) < found["oracle: what is described"] - 0.05


def test_write_world_on_finished_folder_raises_e501(world: Path) -> None:
    with pytest.raises(NamepinError, match="E501"):
        write_world(world, COUNTS, 3, quiet=True)
    rows = [json.loads(line) for line in (world / "truth" / "test.jsonl").read_text().splitlines()]
    assert len(rows) == COUNTS["test"]


def test_write_world_after_sigkill_completes_same_bytes(tmp_path: Path) -> None:
    few = {"train": 60, "dev": 2, "test": 2}
    write = "import sys, pathlib; from namepin.finetune.sandbox.write import write_world as write\n"
    write += f"write(pathlib.Path(sys.argv[1]), {few}, 5, quiet=True)"
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", write, str(killed)])
    wait_until(lambda: len(list(killed.glob("images/*"))) >= 5, "five pictures")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 5 <= len(list(killed.glob("images/*"))) < 64 and not (killed / "sandbox.json").exists()
    with pytest.raises(NamepinError, match="E501.*other content"):
        write_world(killed, few, 6, quiet=True)
    write_world(killed, few, 5, quiet=True)
    write_world(tmp_path / "fresh", few, 5, quiet=True)
    assert digest(killed) == digest(tmp_path / "fresh")


@pytest.mark.parametrize("name", ["mine.txt", "txt/train.txt", "sandbox.begun.json"])
def test_write_world_with_foreign_files_raises_e501_and_keeps_them(tmp_path: Path, name: str) -> None:
    (tmp_path / "txt").mkdir()
    (tmp_path / name).write_text("mine")
    with pytest.raises(NamepinError, match="E501"):
        write_world(tmp_path, {"train": 1, "dev": 1, "test": 1}, 1, quiet=True)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("place", ["/proc/nope", "{0}/file", "{0}/file/below"])
def test_write_world_to_unwritable_path_raises_e501(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NamepinError, match="E501"):
        write_world(Path(place.format(tmp_path)), {"train": 1, "dev": 1, "test": 1}, 1, quiet=True)
