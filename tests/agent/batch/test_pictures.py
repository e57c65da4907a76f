"""A run resumes only with the pictures of its finished rows."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.batch.local_engine import run_batch
from namepin.agent.batch.pictures import check_finished
from namepin.agent.batch.source import Source
from namepin.agent.config.settings import load_settings
from namepin.tools.errors import NamepinError
from namepin.tools.images import load
from namepin.tools.images.decoder_pool import TooSlow
from support.batch_samples import timeless

TEXT_ONLY = ("matcher.backend=off", "tracer.backend=off", "segmenter.backend=off")
PICTURES = ("a.png", "b.png", None, "none.png", "damaged.png", "late.png")


@pytest.fixture(scope="module")
def pin() -> Namepin:
    return Namepin(load_settings("starter", assignments=TEXT_ONLY, environment={}))


def draw(path: Path, colour: str) -> None:
    Image.new("RGB", (32, 24), colour).save(path)


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    """Six posts: two have pictures, one has none, one's is missing, one's is damaged, one's comes after the trial."""
    draw(tmp_path / "a.png", "red")
    draw(tmp_path / "b.png", "green")
    draw(tmp_path / "late.png", "white")
    (tmp_path / "damaged.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    rows = [json.dumps({"id": f"p{n}", "text": f"Bob {n}", "image": name}) for n, name in enumerate(PICTURES)]
    (tmp_path / "posts.jsonl").write_text("\n".join([*rows[:1], "no post", *rows[1:]]))
    return tmp_path / "posts.jsonl"


def trial(pin: Namepin, posts: Path) -> Path:
    """All rows except the last."""
    run_batch(pin, Source(str(posts)), posts.parent / "out", limit=6)
    return posts.parent / "out"


def rewritten(path: Path) -> None:
    """Another picture of the same size in bytes, with the old one's date."""
    before = path.stat()
    draw(path, "lime")
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda folder: rewritten(folder / "b.png"), "the picture of a finished post has changed since"),
        (lambda folder: (folder / "a.png").unlink(), "is not there any more"),
        (lambda folder: draw(folder / "none.png", "blue"), "is readable now"),
        (lambda folder: draw(folder / "damaged.png", "blue"), "is readable now"),
    ],
)
def test_batch_resume_with_changed_picture_raises_e502(
    pin: Namepin, posts: Path, change: Callable[[Path], None], said: str
) -> None:
    out = trial(pin, posts)
    change(posts.parent)
    before = (out / "predictions.jsonl").read_bytes()
    with pytest.raises(NamepinError) as refused:
        run_batch(pin, Source(str(posts)), out)
    assert refused.value.code == "E502" and said in str(refused.value) and "--out" in str(refused.value)
    assert (out / "predictions.jsonl").read_bytes() == before, "nothing was written"
    run_batch(pin, Source(str(posts)), posts.parent / "another")
    assert len(timeless(posts.parent / "another" / "predictions.jsonl")) == len(PICTURES)


def test_batch_resume_with_touched_or_new_pictures_completes(pin: Namepin, posts: Path) -> None:
    out, folder = trial(pin, posts), posts.parent
    for name in ("a.png", "b.png"):
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        (folder / name).write_bytes(data)
        os.utime(folder / name, (0, 0))
    draw(folder / "late.png", "black")  # its row is not done: the picture is what it is when it is read
    run_batch(pin, Source(str(posts)), out)
    run_batch(pin, Source(str(posts)), folder / "whole")
    assert timeless(out / "predictions.jsonl") == timeless(folder / "whole" / "predictions.jsonl")


def give_up(data: bytes, max_pixels: int, deadline_s: float) -> Any:
    """A decoder that never gets through; a deadline of 0 s may be met by a small picture."""
    raise TooSlow


def test_check_finished_ignores_pictures_of_failed_or_degraded_posts(
    pin: Namepin, posts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = pin.aextract

    async def extract(ready: Any) -> Any:
        if ready.post.id == "p1":
            raise ValueError("bad")
        return await real(ready)

    monkeypatch.setattr(pin, "aextract", extract)
    monkeypatch.setattr(load, "check_header", lambda data, max_pixels: False)
    monkeypatch.setattr(load._processes, "decode", give_up)
    out = trial(pin, posts)
    rows = timeless(out / "predictions.jsonl")
    assert rows[1]["status"] == "failed" and "not decoded within" in rows[0]["warnings"][0]["message"]
    check_finished(Source(str(posts)), out, 6, 10**6)


@pytest.mark.parametrize("first", [True, False])
def test_batch_resume_with_dataset_image_folder_changed_is_refused(pin: Namepin, tmp_path: Path, first: bool) -> None:
    """Without it no post names a picture, so the text's hash alone would not tell."""
    (tmp_path / "txt").mkdir()
    (tmp_path / "txt" / "dev.txt").write_text("IMGID:1\nBob\tO\n\nIMGID:2\nOslo\tO\n")
    images, hidden = tmp_path / "images", tmp_path / "hidden"
    (images if first else hidden).mkdir()
    draw((images if first else hidden) / "1.jpg", "red")
    source = f"gmner:{tmp_path}:dev"
    run_batch(pin, Source(source), tmp_path / "out", limit=1)
    (images if first else hidden).rename(hidden if first else images)
    with pytest.raises(NamepinError, match="not there"):
        run_batch(pin, Source(source), tmp_path / "out")
