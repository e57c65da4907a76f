"""A batch that is killed at any moment, and an input that changes meanwhile. The tool is a function, not a model."""

import json
import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from namepin.agent.batch.finished import FAILURES, PREDICTIONS
from namepin.agent.batch.out_folder import MANIFEST, OutFolder
from namepin.agent.batch.writing import Progress
from namepin.tools.errors import NamepinError
from support.batch_runs import ids, run, write_rows
from support.forked import Forked


def rows(count: int) -> list[Any]:
    """One in a hundred is not a post, another one fails."""
    return [
        "not a post" if n % 100 == 7 else {"id": f"p{n}", "text": f"{'FAIL' if n % 100 == 50 else 'Bob'} {n}"}
        for n in range(count)
    ]


class Killed(BaseException):
    """What a signal would do, at a chosen call."""


def killing(real: Callable[..., Any], left: list[int]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("name", ["replace", "fsync", "open", "fdopen", "lstat"])
def test_batch_killed_at_any_disk_call_completes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The manifest's calls among them: it is written at the beginning and at the end."""
    posts = write_rows(tmp_path / "posts.jsonl", rows(60))
    run(posts, tmp_path / "whole")
    kills = 0
    for number in range(1, 40):
        out = tmp_path / f"out{number}"
        with monkeypatch.context() as patched:
            patched.setattr(os, name, killing(getattr(os, name), [number]))
            try:
                run(posts, out)
            except Killed:
                kills += 1
        run(posts, out)
        for file in (PREDICTIONS, FAILURES):
            assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes(), number
        assert json.loads((out / MANIFEST).read_text())["status"] == "done"
        assert {path.name for path in out.iterdir()} == {PREDICTIONS, FAILURES, MANIFEST, ".lock"}
    assert kills or name in ("fdopen", "lstat")


def test_batch_after_repeated_sigkill_completes_exactly(tmp_path: Path) -> None:
    posts, out, rng = write_rows(tmp_path / "posts.jsonl", rows(4_000)), tmp_path / "out", random.Random(3)
    run(posts, tmp_path / "whole")
    sizes = []
    for _ in range(6):
        process = Forked(run, posts, out)
        wanted = (sizes[-1] if sizes else 0) + rng.randrange(20_000, 90_000)
        while process.poll() is None and (
            not (out / PREDICTIONS).exists() or (out / PREDICTIONS).stat().st_size < wanted
        ):
            time.sleep(0.001)
        process.kill()
        process.communicate()
        sizes.append((out / PREDICTIONS).stat().st_size)
    assert sizes == sorted(sizes)
    run(posts, out)
    for file in (PREDICTIONS, FAILURES):
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_batch_resume_removes_part_file_of_killed_writer(tmp_path: Path) -> None:
    posts, out = write_rows(tmp_path / "posts.jsonl", rows(5)), tmp_path / "out"
    run(posts, out, limit=2)
    (out / ".manifest.json.0123abcd.part").write_text("{")
    run(posts, out)
    assert not list(out.glob("*.part"))


@pytest.mark.parametrize("change", ["appended", "replaced", "deleted", "touched"])
def test_batch_with_input_changed_during_run_raises_e502(tmp_path: Path, change: str) -> None:
    posts, out = write_rows(tmp_path / "posts.jsonl", rows(30)), tmp_path / "out"
    whole = posts.read_bytes()

    def at(progress: Progress) -> None:
        if progress.done == 15:
            if change == "appended":
                posts.write_bytes(whole + b'{"id": "late", "text": "late"}\n')
            elif change == "replaced":
                (tmp_path / "new").write_bytes(whole.replace(b"Bob 2", b"Eve 2"))
                (tmp_path / "new").replace(posts)
            elif change == "deleted":
                posts.unlink()
            else:
                posts.touch()

    if change == "touched":
        assert run(posts, out, on_progress=at)[0].done == 30
        return
    with pytest.raises(NamepinError, match="E502: the input changed while it was read"):
        run(posts, out, on_progress=at)
    assert json.loads((out / MANIFEST).read_text())["status"] == "stopped"
    posts.write_bytes(whole)
    run(posts, out, repair=True)
    run(posts, tmp_path / "whole")
    assert (out / PREDICTIONS).read_bytes() == (tmp_path / "whole" / PREDICTIONS).read_bytes()


def test_batch_threads_on_locked_folder_raise_e501(tmp_path: Path) -> None:
    posts, out = write_rows(tmp_path / "posts.jsonl", rows(5)), tmp_path / "out"
    refused: list[str] = []

    def second() -> None:
        try:
            run(posts, out)
        except NamepinError as error:
            refused.append(error.code)

    with OutFolder(out, {"input_sha256": "x"}):
        threads = [threading.Thread(target=second) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert refused == ["E501"] * 4
    run(posts, out)
    assert len(ids(out)) == 5


def test_batch_of_1000_rows_after_limits_and_damage_repairs_exactly(tmp_path: Path) -> None:
    """`tests/load/batch_rows.py` does it with 100,000."""
    posts, out, rng = write_rows(tmp_path / "posts.jsonl", rows(1_000)), tmp_path / "out", random.Random(5)
    run(posts, tmp_path / "whole")
    for limit in (250, 500, 750):
        run(posts, out, limit=limit)
    lines = (out / PREDICTIONS).read_bytes().splitlines(keepends=True)
    lines[rng.randrange(len(lines) - 1)] = b"garbage\n"
    (out / PREDICTIONS).write_bytes(b"".join(lines))
    with pytest.raises(NamepinError, match="E502"):
        run(posts, out)
    progress, worked = run(posts, out, repair=True)
    assert progress.done == 1_000 and len(worked) <= 250 + 1 + 20
    for file in (PREDICTIONS, FAILURES):
        assert (out / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
