"""Attacks on a batch's folder between two runs: no finished row is lost or confused with another one."""

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from namepin.agent.batch.finished import FAILURES, PREDICTIONS
from namepin.agent.batch.out_folder import MANIFEST
from namepin.tools.errors import NamepinError
from support.batch_runs import ids, run, write_rows

ROWS = 60
"""Posts 0 to 59; 7 and 31 fail, rows 12 and 40 are not posts."""
GOOD = ROWS - 4


@pytest.fixture
def posts(tmp_path: Path) -> Path:
    rows: list[object] = [
        {"id": f"p{n}", "text": f"{'FAIL' if n in (7, 31) else 'Bob'} {n}", "n": n} for n in range(ROWS)
    ]
    rows[12] = "not a post"
    rows[40] = {"id": "p40"}
    return write_rows(tmp_path / "posts.jsonl", rows)


@pytest.fixture
def finished(posts: Path, tmp_path: Path) -> Path:
    run(posts, tmp_path / "out")
    return tmp_path / "out"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}


def edit(path: Path, change: Callable[[list[bytes]], None]) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    change(lines)
    path.write_bytes(b"".join(lines))


def spoil(number: int, value: bytes) -> Callable[[list[bytes]], None]:
    return lambda lines: lines.__setitem__(number, value)


def swap(lines: list[bytes]) -> None:
    lines[3], lines[4] = lines[4], lines[3]


def take_post(lines: list[bytes]) -> None:
    row = json.loads(lines[0])
    lines[0] = json.dumps({**row, "post": not row["post"]}).encode() + b"\n"


def drop_id(lines: list[bytes]) -> None:
    row = json.loads(lines[-1])
    assert row.pop("id") is None  # a row that is not a post
    lines[-1] = json.dumps(row).encode() + b"\n"


ON_PREDICTIONS: dict[str, Callable[[list[bytes]], None]] = {
    "first line garbage": spoil(0, b"garbage\n"),
    "middle line torn": lambda lines: lines.__setitem__(20, lines[20][:40] + b"\n"),
    "middle line zeros": spoil(20, b"\0" * 400 + b"\n"),
    "middle line empty": spoil(20, b"\n"),
    "middle line not UTF-8": spoil(20, b'{"id": "\xff"}\n'),
    "middle line NaN": lambda lines: lines.__setitem__(20, lines[20].replace(b'"entities":[]', b'"entities":[NaN]')),
    "middle line a list": spoil(20, b"[1]\n"),
    "middle line lacks keys": spoil(20, b"{}\n"),
    "middle line nested": spoil(20, b"[" * 100_000 + b"\n"),
    "line break inside": lambda lines: lines.__setitem__(20, lines[20][:40] + b"\n" + lines[20][40:]),
    "two lines joined": lambda lines: lines.__setitem__(20, lines[20].rstrip(b"\n")),
    "line missing": lambda lines: lines.pop(20),
    "first line missing": lambda lines: lines.pop(0),
    "lines swapped": swap,
    "line twice": lambda lines: lines.insert(20, lines[20]),
    "line of another row": lambda lines: lines.__setitem__(20, lines[21]),
    "line of other tools": lambda lines: lines.__setitem__(20, lines[20].replace(b'"f1"', b'"f2"')),
    "failed post called ok": lambda lines: lines.__setitem__(7, lines[7].replace(b'"failed"', b'"ok"')),
    "complete last line garbage": spoil(-1, b'{"id": 7}\n'),
}  # fmt: skip
ON_FAILURES: dict[str, Callable[[list[bytes]], None]] = {
    "first line garbage": spoil(0, b"garbage\n"),
    "middle line a number": spoil(1, b"7\n"),
    "row not a number": lambda lines: lines.__setitem__(1, lines[1].replace(b'"row": 13', b'"row": "13"')),
    "row true": lambda lines: lines.__setitem__(1, lines[1].replace(b'"row": 13', b'"row": true')),
    "keys missing": spoil(1, b'{"row": 13}\n'),
    "another row": lambda lines: lines.__setitem__(1, lines[1].replace(b'"row": 13', b'"row": 14')),
    "swapped": lambda lines: lines.reverse(),
    "line missing": lambda lines: lines.pop(1),
    "about a post": take_post,
    "id missing": drop_id,
    "all lines missing": lambda lines: lines.clear(),
    "not UTF-8": spoil(2, b"\xff\xfe\n"),
}  # fmt: skip
ATTACKS = [(PREDICTIONS, name) for name in ON_PREDICTIONS] + [(FAILURES, name) for name in ON_FAILURES]


@pytest.mark.parametrize(("file", "attack"), ATTACKS)
def test_batch_with_damaged_results_raises_e502_and_repair_keeps_whole_rows(
    posts: Path, finished: Path, file: str, attack: str
) -> None:
    whole = contents(finished)
    edit(finished / file, (ON_PREDICTIONS if file == PREDICTIONS else ON_FAILURES)[attack])
    before = contents(finished)
    assert before != whole
    with pytest.raises(NamepinError) as refused:
        run(posts, finished)
    assert refused.value.code == "E502" and "--repair" in refused.value.mend
    assert refused.value.where.startswith(str(finished))
    assert contents(finished) == before, "a refused run changes nothing"
    progress, worked = run(posts, finished, repair=True)
    after = contents(finished)
    assert (after[PREDICTIONS], after[FAILURES]) == (whole[PREDICTIONS], whole[FAILURES])
    assert progress.done == ROWS and set(worked) >= {8, 13, 32, 41}
    assert len(worked) <= 4 + 2, "no whole line is worked on again"
    assert run(posts, finished)[1] == []


@pytest.mark.parametrize("torn", [1, 20, 100])
def test_batch_with_torn_last_line_recomputes_only_that_row(posts: Path, finished: Path, torn: int) -> None:
    whole = contents(finished)
    for file in (PREDICTIONS, FAILURES):
        (finished / file).write_bytes(whole[file][:-torn] if file == PREDICTIONS else whole[file] + b'{"id": nu')
    assert run(posts, finished)[1] == [ROWS]
    assert contents(finished) == whole


@pytest.mark.parametrize("manifest", [b"[]", b"7", b"null", b'"x"', b"{", b"", b"\xff\xfe", b"[" * 100_000, None])
def test_batch_with_invalid_manifest_raises_e502_and_repair_restores(
    posts: Path, finished: Path, manifest: bytes | None
) -> None:
    whole = contents(finished)
    (finished / MANIFEST).unlink() if manifest is None else (finished / MANIFEST).write_bytes(manifest)
    with pytest.raises(NamepinError, match=r"E502: the folder.*manifest.*--repair"):
        run(posts, finished)
    assert contents(finished) == whole
    _, worked = run(posts, finished, repair=True)
    assert worked == [8, 13, 32, 41] and contents(finished)[PREDICTIONS] == whole[PREDICTIONS]


def test_batch_repair_reuses_no_row_of_other_tools_or_input(posts: Path, finished: Path) -> None:
    (finished / MANIFEST).unlink()
    assert len(run(posts, finished, repair=True, fingerprint="f2")[1]) == ROWS
    posts.write_text(posts.read_text().replace("Bob 3", "Eve 3"))
    with pytest.raises(NamepinError, match="E502.*another input"):
        run(posts, finished, repair=True, fingerprint="f2")


def test_batch_after_interrupted_repair_keeps_every_whole_row(posts: Path, finished: Path) -> None:
    whole = contents(finished)
    edit(finished / PREDICTIONS, spoil(20, b"garbage\n"))
    assert run(posts, finished, repair=True, limit=10)[1] == [8]
    assert run(posts, finished)[1] == [13, 22, 32, 41], "without the flag, too"
    assert contents(finished)[PREDICTIONS] == whole[PREDICTIONS]


def test_batch_repair_of_whole_folder_retries_failed_rows_only(posts: Path, finished: Path) -> None:
    whole = contents(finished)
    for attack in ("garbage\n", "torn"):
        edit(finished / PREDICTIONS, spoil(5, attack.encode()))
        run(posts, finished, repair=True)
        assert contents(finished)[PREDICTIONS] == whole[PREDICTIONS]
    assert run(posts, finished, repair=True)[1] == [8, 13, 32, 41], "rows that failed are tried again"


@pytest.mark.parametrize("name", [PREDICTIONS, FAILURES, MANIFEST, ".lock", "predictions.damaged.jsonl"])
@pytest.mark.parametrize("kind", ["symbolic", "dangling", "hard", "folder", "pipe"])
@pytest.mark.parametrize("repair", [False, True])
def test_batch_with_link_folder_or_pipe_in_out_folder_raises_e502(
    posts: Path, finished: Path, tmp_path: Path, name: str, kind: str, repair: bool
) -> None:
    outside = tmp_path / "outside"
    path = finished / name
    if path.exists():
        path.rename(outside)
    elif kind != "dangling":
        outside.write_bytes(b"private")
    if kind == "dangling":
        outside.unlink(missing_ok=True)
    if kind in ("symbolic", "dangling"):
        path.symlink_to(outside)
    elif kind == "hard":
        path.hardlink_to(outside)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    before = outside.read_bytes() if outside.exists() else None
    with pytest.raises(NamepinError, match=f"E502: {name} is a link, or not a file"):
        run(posts, finished, repair=repair)
    assert (outside.read_bytes() if outside.exists() else None) == before


@pytest.mark.parametrize("seed", range(10))
def test_batch_with_random_damage_loses_no_row(posts: Path, finished: Path, seed: int) -> None:
    """Bytes turned, cut out or put in anywhere in the two files: the run is refused, or the result is the whole one."""
    whole, rng = contents(finished), random.Random(seed)
    refused = 0
    for _ in range(30):
        for name in (PREDICTIONS, FAILURES):
            (finished / name).write_bytes(whole[name])
        name = rng.choice((PREDICTIONS, PREDICTIONS, FAILURES))
        data = bytearray(whole[name])
        at, length = rng.randrange(len(data)), rng.choice((1, 1, 30, 900))
        kind = rng.choice(("zero", "cut", "insert"))
        data[at : at + length] = {"zero": b"\0" * length, "cut": b"", "insert": rng.randbytes(length)}[kind]
        (finished / name).write_bytes(data)
        try:
            run(posts, finished)
        except NamepinError as error:
            assert error.code == "E502"
            refused += 1
            run(posts, finished, repair=True)
        assert ids(finished) == [f"p{n}" for n in range(ROWS) if n not in (12, 40)]
        assert (finished / FAILURES).read_bytes().count(b"\n") == 4
    assert refused > 10


def test_batch_with_other_release_on_same_folder_raises_e502(posts: Path, tmp_path: Path) -> None:
    run(posts, tmp_path / "out", limit=10)
    before = contents(tmp_path / "out")
    with pytest.raises(NamepinError, match="E502.*other tools: another release"):
        run(posts, tmp_path / "out", fingerprint="f2")
    assert contents(tmp_path / "out") == before
    assert len(run(posts, tmp_path / "out")[1]) == ROWS - 10
