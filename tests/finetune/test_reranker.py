"""The reranker's recipe on tiny language models: LoRA learns the types, and the tool loads the adapter."""

import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from namepin.finetune.loop.run_folder import CHECKPOINT
from namepin.finetune.loop.trainer import Run
from namepin.finetune.recipes.reranker import RECIPES, RerankerTraining
from namepin.finetune.reranker import RerankerTask, candidates_of, train
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import RerankRequest
from namepin.tools.labels import COARSE4, FINE51, FINE_TO_COARSE8
from namepin.tools.loading.adapters import read_adapter_manifest
from namepin.tools.media import Media
from namepin.tools.reranker.blip2 import Blip2Reranker
from namepin.tools.reranker.config import Blip2RerankerConfig, LlavaRerankerConfig, TextRerankerConfig
from namepin.tools.reranker.llava import LlavaReranker
from namepin.tools.reranker.text import TextReranker
from support import tiny_rerankers

TYPES = {"ada": ("person", "athlete"), "kfc": ("organization", "company"), "rome": ("location", "city")}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    for folder in ("txt_fine", "xml", "images"):
        (root / folder).mkdir()
    for split in ("train", "dev"):
        lines = []
        for number in range(9):
            name = list(TYPES)[number % 3]
            coarse, fine = TYPES[name]
            lines += [f"IMGID:{split}{number}", f"{name}\tB-{coarse}\tB-{fine}", "\n"]
            pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"{split}{number}.jpg")
        (root / "txt_fine" / f"{split}.txt").write_text("\n".join(lines))
    captions = "".join(json.dumps({"id": f"{s}{n}", "caption": "x"}) + "\n" for s in ("train", "dev") for n in range(9))
    (root / "captions.jsonl").write_text(captions)
    return root


SAVE: dict[str, Any] = {
    "llava": tiny_rerankers.save_llava,
    "blip2": tiny_rerankers.save_blip2,
    "text": tiny_rerankers.save_llama,
}


def a_recipe(world: Path, tmp_path: Path, backend: str, **changes: Any) -> RerankerTraining:
    weights = SAVE[backend](tmp_path / "base")
    given: dict[str, Any] = {
        "root": str(world), "weights": str(weights), "out": str(tmp_path / "run"), "epochs": 16, "lr": 1e-2, "rank": 8,
        "batch_size": 3, "patience": 20, "alpha": 64, "warmup": 0.0, "cpu": True, "dtype": "float32", "dropout": 0.0,
        "captions": str(world / "captions.jsonl") if backend == "text" else "",
    }  # fmt: skip
    return RECIPES[backend](**given | changes)


TOOLS: dict[str, Any] = {
    "llava": (LlavaReranker, LlavaRerankerConfig),
    "blip2": (Blip2Reranker, Blip2RerankerConfig),
    "text": (TextReranker, TextRerankerConfig),
}


@pytest.mark.parametrize("backend", RECIPES)
def test_reranker_training_learns_and_tool_loads_adapter(world: Path, tmp_path: Path, backend: str) -> None:
    recipe = a_recipe(world, tmp_path, backend, epochs=40 if backend == "llava" else 16, patience=40)
    task = RerankerTask(recipe)
    learnt = [name for name, value in task.net.named_parameters() if value.requires_grad]
    assert learnt and all(".lora_" in name and "vision" not in name and "qformer" not in name for name in learnt)
    report = train(recipe)
    history = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["history"]
    # Around a base of noise, a little LoRA cannot learn everything.
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert report["accuracy"] >= {"llava": 0.6, "blip2": 0.4, "text": 0.4}[backend], "by chance, a third"
    manifest = read_adapter_manifest(Path(report["weights"]))
    assert manifest.rank == 8 and manifest.task == "rerank" and manifest.training["lr"] == 1e-2
    tool_type, config_type = TOOLS[backend]
    config = {"weights": recipe.weights, "adapter": report["weights"], "dtype": "float32"}
    tool = tool_type(config_type.model_validate(config))
    right = [tool.run([request], media)[0].label == answer for request, media, answer in asked(task)]
    assert sum(right) / len(right) == pytest.approx(report["accuracy"], abs=1e-6)


@pytest.mark.parametrize("backend", RECIPES)
def test_reranker_gradient_checkpointing_gives_equal_loss(world: Path, tmp_path: Path, backend: str) -> None:
    once, twice = (
        train(
            a_recipe(world, tmp_path, backend, epochs=1, out=str(tmp_path / str(saving)), gradient_checkpointing=saving)
        )
        for saving in (False, True)
    )
    # OPT drops some activations, and other ones where question and answer are one pass.
    assert twice["loss"] == pytest.approx(once["loss"], rel=1e-2 if backend == "blip2" else 1e-4)


@pytest.mark.parametrize("backend", ["llava", "blip2"])
def test_reranker_gradient_checkpointing_accepts_repeated_picture(
    world: Path, tmp_path: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = a_recipe(world, tmp_path, backend, epochs=1, gradient_checkpointing=True, accumulate=3)
    task = RerankerTask(recipe)
    row = task.rows(random.Random(1))[0]
    monkeypatch.setattr(task, "rows", lambda rng: [row] * 6)
    losses = list(Run(recipe, task).steps(2))
    assert len(losses) == 2 and losses[1] != losses[0]


def asked(task: RerankerTask) -> list[tuple[RerankRequest, Media, str]]:
    return [(*task.request(row, candidates), row.answer) for row, candidates in task.dev]


def test_candidates_of_fine_type_follow_paper_composition() -> None:
    """Section 3.3.2: the right one, K - 2 of its coarse type, one of another; in any order."""
    rng, places = random.Random(1), Counter[int]()
    for fine in FINE51:
        for count in (3, 5, 8):
            found = candidates_of(fine, count, FINE51, rng)
            near = [name for name in found if FINE_TO_COARSE8[name] == FINE_TO_COARSE8[fine]]
            alike = [name for name in FINE51 if FINE_TO_COARSE8[name] == FINE_TO_COARSE8[fine]]
            assert fine in found and len(set(found)) == len(found)
            assert len(near) == min(count - 1, len(alike)) and len(found) == count
            places[found.index(fine)] += count == 5
    assert len(places) >= 5 and max(places.values()) < 26
    assert sorted(candidates_of("PER", 5, FINE51, rng)) == sorted(COARSE4)


def test_candidates_of_type_come_from_occurring_types() -> None:
    """Else a model learns which types a data set never has, and needs neither text nor picture."""
    some = ("city", "musician", "actor", "author", "company", "magazine")
    rng = random.Random(1)
    for fine in some:
        assert {fine} < set(candidates_of(fine, 5, some, rng)) < set(some)
    assert set(candidates_of("city", 5, ("city", "actor"), rng)) == {"city", "actor"}


def test_reranker_training_with_missing_files_raises_e130(world: Path, tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E130"):
        train(a_recipe(tmp_path / "nowhere", tmp_path, "llava"))
    with pytest.raises(NamepinError, match="E130"):
        train(a_recipe(world, tmp_path, "text", captions=str(tmp_path / "no.jsonl")))


@pytest.mark.parametrize(
    ("split", "line", "error"),
    [("train", "ada\tB-person\tB-athlete", "'athlete'.*nothing to choose among"), ("dev", "ada\tO\tO", "no mention")],
)
def test_reranker_without_choice_raises_e139(world: Path, tmp_path: Path, split: str, line: str, error: str) -> None:
    root = tmp_path / "world"
    shutil.copytree(world, root)
    (root / "txt_fine" / f"{split}.txt").write_text(f"IMGID:{split}0\n{line}\n")
    with pytest.raises(NamepinError, match=rf"E139.*{error}.*{split}\.txt"):
        train(RECIPES["llava"](root=str(root), out=str(tmp_path / "run")))


def test_reranker_training_with_type_outside_scheme_raises_e132(world: Path, tmp_path: Path) -> None:
    root = tmp_path / "world"
    shutil.copytree(world, root)
    file = root / "txt_fine" / "dev.txt"
    file.write_text(file.read_text().replace("B-company", "B-unicorn", 1))
    with pytest.raises(NamepinError, match=r"E132.*unicorn.*dev\.txt:6"):
        train(RECIPES["llava"](root=str(root), out=str(tmp_path / "run")))


def test_reranker_limit_takes_first_mentions(world: Path, tmp_path: Path) -> None:
    whole, part = (RerankerTask(a_recipe(world, tmp_path, "text", limit=limit)) for limit in (0, 3))
    assert part.train == whole.train[:3] and part.dev == whole.dev and len(whole.train) > 3
