"""Groups of posts: cut by the input alone, so that an interrupted run ends with the bytes of an undisturbed one."""

import json
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.batch.finished import FAILURES, PREDICTIONS
from namepin.agent.batch.local_engine import run_batch
from namepin.agent.batch.source import Source
from namepin.agent.batch.writing import row_groups
from namepin.agent.config.build import TOGETHER, batched_calls, grouped_roles, posts_per_group
from namepin.agent.config.settings import load_settings
from support.batch_samples import timeless

TEXT_ONLY = ("matcher.backend=off", "tracer.backend=off", "segmenter.backend=off")
WORDS = (
    "Bob Dylan and Angelina Jolie at the White House in Oslo with NASA , Apple and the Chicago Bulls tonight !".split()
)
TOGETHER_HERE, POSTS, CUTS = 6, 40, 5


@pytest.fixture(scope="module")
def pin() -> Namepin:
    settings = load_settings("starter", assignments=TEXT_ONLY, environment={})
    return Namepin(settings, batched_calls(settings))


@pytest.fixture(scope="module")
def posts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Posts of different lengths, among them reposts of earlier groups and rows that are not posts."""
    rng, rows = random.Random(5), list[str]()
    for number in range(POSTS):
        text = " ".join(rng.choices(WORDS, k=rng.randint(2, 25))) + f" {number}"
        if number and rng.random() < 0.25:
            text = json.loads(rng.choice([row for row in rows if row.startswith("{")]))["text"]
        rows.append("no post" if number % 11 == 7 else json.dumps({"id": f"p{number}", "text": text}))
    path = tmp_path_factory.mktemp("posts") / "posts.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def sizes(pin: Namepin, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The numbers of requests of the tagger's calls."""
    tagger, found = pin.calls.tools["tagger"], list[int]()  # type: ignore[attr-defined]  # batched calls
    real = tagger.run

    def run(requests: Sequence[Any], media: Any) -> Any:
        found.append(len(requests))
        return real(requests, media)

    monkeypatch.setattr(tagger, "run", run)
    yield found


def a_run(pin: Namepin, posts: Path, out: Path, **more: Any) -> list[dict[str, Any]]:
    run_batch(pin, Source(str(posts)), out, together=more.pop("together", TOGETHER_HERE), **more)
    return timeless(out / PREDICTIONS)


def test_batch_interrupted_at_drawn_bytes_resumes_with_bytes_of_undisturbed_run(
    pin: Namepin, posts: Path, sizes: list[int], tmp_path: Path
) -> None:
    whole = a_run(pin, posts, tmp_path / "whole")
    undisturbed = list(sizes)
    assert sum(size > 1 for size in undisturbed) > 4 and len({row["text"] for row in whole}) < len(whole)
    length, rng = (tmp_path / "whole" / PREDICTIONS).stat().st_size, random.Random(9)
    for number in range(CUTS):
        out = tmp_path / f"{number}"
        shutil.copytree(tmp_path / "whole", out)
        cut = rng.randrange(length)
        with (out / PREDICTIONS).open("r+b") as file:  # failures are written first, so that some may be ahead
            file.truncate(cut)
        sizes.clear()
        assert a_run(pin, posts, out) == whole, f"cut after {cut} bytes"
        assert sizes == undisturbed[len(undisturbed) - len(sizes) :], "the groups are those of the undisturbed run"
        assert (out / FAILURES).read_bytes() == (tmp_path / "whole" / FAILURES).read_bytes()


def test_batch_repair_in_middle_of_group_equals_undisturbed_run(pin: Namepin, posts: Path, tmp_path: Path) -> None:
    whole = a_run(pin, posts, tmp_path / "out")
    lines = (tmp_path / "out" / PREDICTIONS).read_bytes().splitlines(keepends=True)
    lines[14] = b"damaged\n"
    (tmp_path / "out" / PREDICTIONS).write_bytes(b"".join(lines))
    assert a_run(pin, posts, tmp_path / "out", repair=True) == whole


def test_batch_in_groups_equals_posts_alone_within_tolerance(pin: Namepin, posts: Path, tmp_path: Path) -> None:
    alone, together = (a_run(pin, posts, tmp_path / f"{n}", together=n) for n in (1, TOGETHER))
    assert [strip(row) for row in alone] == [strip(row) for row in together]
    for one, other in zip(alone, together, strict=True):
        for a, b in zip(one["entities"], other["entities"], strict=True):
            assert a["scores"] == pytest.approx(b["scores"], abs=1e-4)


def strip(row: dict[str, Any]) -> dict[str, Any]:
    """A result without the numbers whose last bits depend on the group."""
    numbers = {"scores", "entropy", "type_confidence"}
    return row | {"entities": [{k: v for k, v in e.items() if k not in numbers} for e in row["entities"]]}


def test_python_batch_shares_tagger_calls_and_equals_single_extractions(
    pin: Namepin, posts: Path, sizes: list[int]
) -> None:
    rows = [json.loads(line) for line in posts.read_text().splitlines() if line.startswith("{")]
    found = [json.loads(result.to_json()) for result in pin.batch(rows, together=8)]
    assert max(sizes) == 8
    sizes.clear()
    single = [json.loads(pin.extract(row).to_json()) for row in rows[:10]]
    assert set(sizes) == {1}
    keys = ("id", "text", "status", "entities")
    assert [[strip(one)[k] for k in keys] for one in single] == [[strip(one)[k] for k in keys] for one in found[:10]]


def test_row_groups_end_at_size_or_pictures_whatever_is_finished(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    rows = [{"id": f"{n}", "text": f"Bob {n}", "image": "a.png" if n in (1, 2, 3) else None} for n in range(8)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source(str(tmp_path / "p.jsonl"))
    groups = [
        [([row.number for row in group.rows], sorted(group.due)) for group in row_groups(source, 4, 2, done, None, {6})]
        for done in (0, 5)
    ]
    assert groups[0] == [([1, 2, 3], [1, 2, 3]), ([4, 5, 6, 7], [4, 5, 7]), ([8], [8])]
    assert groups[1] == [([1, 2, 3], []), ([4, 5, 6, 7], [7]), ([8], [8])]


def test_grouped_roles_are_tagger_and_gpu_tools_and_cache_keeps_posts_alone() -> None:
    def roles(profile: str, *sets: str) -> frozenset[str]:
        return grouped_roles(load_settings(profile, assignments=sets, environment={}))

    server = ("knowledge.backend=starter", "knowledge.base_url=http://127.0.0.1:1/v1", "knowledge.model=m")
    assert roles("starter") == {"tagger"}
    assert roles("starter", *server) == frozenset(), "a post would wait for the slowest answer of its group"
    assert "matcher" in roles("gem") and "reranker" not in roles("gem")
    settings = load_settings("starter", assignments=["batch.cache=true"], environment={})
    assert posts_per_group(settings, TOGETHER) == 1
