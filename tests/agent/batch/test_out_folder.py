"""The output folder after crashes of every kind, and inputs that must not fill the memory."""

import json
import os
import random
import tracemalloc
from pathlib import Path

import pytest

from namepin.agent.batch import input_files, source
from namepin.agent.batch.finished import FAILURES, PREDICTIONS
from namepin.agent.batch.out_folder import OutFolder
from namepin.agent.batch.source import Row, Source
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction, Post

IDENTITY = {"input_sha256": "i"}
KINDS = ("post", "failed", "none")


def outcome(number: int, kind: str) -> tuple[Row, Extraction | None, Exception | None]:
    """Row `number`: a successful post, a failed post, or no post."""
    name = f"p{number}"
    post = Post(id=name, text=name) if kind != "none" else None
    result = Extraction(id=name, text=name, tokens=(name,), fingerprint="f") if post else None
    return Row(number, f"in:{number}", post), result, None if kind == "post" else NamepinError("E103", "bad")


def write(out: Path, kinds: list[str], first: int = 0) -> None:
    with OutFolder(out, IDENTITY) as folder:
        folder.say(status="running")
        for number, kind in enumerate(kinds[first:], first + 1):
            folder.put(*outcome(number, kind))


@pytest.mark.parametrize("seed", range(40))
def test_out_folder_after_crash_at_any_byte_completes_exactly(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    kinds = [rng.choice(KINDS) for _ in range(12)]
    whole, out = tmp_path / "whole", tmp_path / "out"
    write(whole, kinds)
    write(out, kinds[: rng.randrange(13)])
    # The power goes: predictions lose any number of bytes, or hold zeros; failures, which come first, are all there.
    predictions = (out / PREDICTIONS).read_bytes()
    kept = rng.randrange(len(predictions) + 1)
    zeros = rng.choice((b"", b"\0" * 30, b"\0" * 30 + b"\n"))
    (out / PREDICTIONS).write_bytes(predictions[:kept] + (zeros if kept < len(predictions) else b""))
    with OutFolder(out, IDENTITY) as folder:
        done = folder.done
    write(out, kinds, done)
    for name in (PREDICTIONS, FAILURES):
        assert (out / name).read_bytes() == (whole / name).read_bytes(), (seed, name)


def test_out_folder_syncs_failures_before_predictions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, said = tmp_path / "out", list[str]()
    real = os.fsync

    def fsync(handle: int) -> None:
        said.append(f"sync {Path(os.readlink(f'/proc/self/fd/{handle}')).name}")
        real(handle)

    write = OutFolder._write

    def write_line(folder: OutFolder, name: str, data: bytes) -> None:
        said.append(f"write {name}")
        write(folder, name, data)

    monkeypatch.setattr(OutFolder, "_write", write_line)
    with OutFolder(out, IDENTITY) as folder:
        folder.say(status="running")
        monkeypatch.setattr(os, "fsync", fsync)
        folder.put(*outcome(1, "failed"))
    order = [f"write {FAILURES}", f"sync {FAILURES}", f"write {PREDICTIONS}", f"sync {FAILURES}", f"sync {PREDICTIONS}"]
    assert said == order


def test_out_folder_resume_holds_no_failures_in_memory(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, ["post"])
    about = {"id": None, "where": "in", "code": "E103", "reason": "x" * 100, "post": False}
    bad = [json.dumps({**about, "row": n}) for n in range(2, 50_002)]
    (out / FAILURES).write_text("\n".join(bad) + "\n")
    tracemalloc.start()
    with OutFolder(out, IDENTITY) as folder:
        assert (folder.done, folder.failed) == (50_001, 50_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_source_with_long_line_yields_e103_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_files, "MAX_LINE_BYTES", 1000)
    file = tmp_path / "posts.jsonl"
    long = json.dumps({"id": "long", "text": "x" * 10_000_000})
    file.write_text(f'{{"id": "a", "text": "one"}}\n{long}\n\n{{"id": "b", "text": "two"}}\n{long}')
    tracemalloc.start()
    rows = list(Source(str(file)).rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [row.post.id if row.post else row.error and row.error.code for row in rows] == ["a", "E103", "b", "E103"]
    assert [row.where.rpartition(":")[2] for row in rows] == ["1", "2", "4", "5"] and peak < 2**20


@pytest.mark.parametrize("extra", ["[1]", "5", '"x"'])
def test_source_row_with_non_object_extra_yields_failure_of_that_row(tmp_path: Path, extra: str) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text(f'{{"id": "1", "text": "Oslo", "extra": {extra}, "other": 2}}\n{{"id": "2", "text": "Oslo"}}\n')
    bad, good = Source(str(file)).rows()
    assert bad.error is not None and bad.error.code.startswith("E1") and good.post is not None


def test_source_of_dataset_streams_in_constant_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory does not grow with the split, apart from 8 bytes per id.

    The reader's own bounded window is full in either split. Held rows would be 10 MB more.
    """
    monkeypatch.setattr(source.SeenIds, "add", lambda self, name: True)
    (tmp_path / "txt").mkdir()
    file, peaks = tmp_path / "txt" / "dev.txt", list[int]()
    for count in (10_000, 20_000):
        with file.open("w") as lines:
            lines.writelines(f"IMGID:{n}\nBob\tO\n{'x' * 100}\tO\n\n" for n in range(count))
        data = Source(f"gmner:{tmp_path}:dev")
        tracemalloc.start()
        assert data.sha256() and data.count == count and sum(1 for _ in data.rows()) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert file.stat().st_size > 2_400_000 and peaks[1] - peaks[0] < 300_000, peaks


def test_source_of_invalid_dataset_raises_before_run(tmp_path: Path) -> None:
    (tmp_path / "txt").mkdir()
    for text, said in (
        ("IMGID:1\na\tO\n\nIMGID:1\nb\tO\n", "E131.*twice.*dev.txt:5"),
        ("IMGID:1\na\tO\n\nIMGID:2\nb\n", "E131.*dev.txt:5"),
        ("", "E139"),
    ):
        (tmp_path / "txt" / "dev.txt").write_text(text)
        with pytest.raises(NamepinError, match=said):
            Source(f"gmner:{tmp_path}:dev").sha256()
