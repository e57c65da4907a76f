"""Attacks on a cassette: no changed field passes as recorded, and no file outside its folder is read or changed."""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from namepin.graphs.recording.cassette import Cassette
from namepin.graphs.recording.cassette_files import LINES, MANIFEST, end_line
from namepin.graphs.recording.replay import replay
from namepin.graphs.recording.seal import seal
from namepin.tools.base import digest
from namepin.tools.errors import Exit, NamepinError
from support.forked import Forked
from support.paths import CASSETTES
from support.recording import record

GEM = CASSETTES / "gem"
Path_ = tuple[str | int, ...]


@pytest.fixture
def tape(tmp_path: Path) -> Path:
    shutil.copytree(GEM, tmp_path / "tape")
    return tmp_path / "tape"


def fields(value: Any, path: Path_ = ()) -> Iterator[Path_]:
    """Every value inside a JSON value, objects and lists themselves included."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from fields(inner, (*path, key))


def tampered(value: Any, path: Path_) -> Any:
    """The value with another one at the path: of the same kind where that is possible, so that it is hard to tell."""
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    old = place[path[-1]]
    if isinstance(old, bool):
        place[path[-1]] = not old
    elif isinstance(old, int | float):
        place[path[-1]] = old + 1
    elif isinstance(old, str):
        place[path[-1]] = old + "x"
    elif isinstance(old, list):
        place[path[-1]] = old[:-1] if old else [0]
    elif isinstance(old, dict):
        place[path[-1]] = {} if old else {"x": 1}
    else:
        place[path[-1]] = 0
    return changed


def outcome(tape: Path) -> int:
    """The exit code of `replay --check`; anything but a coded error is raised."""
    try:
        list(replay(tape, check=True))
    except NamepinError as error:
        return error.exit_code
    return Exit.DONE


def rows_of(tape: Path) -> list[Any]:
    return [json.loads(line) for line in (tape / LINES).read_text("utf-8").split("\n")[:-1]]


def dumped(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for row in rows)


@pytest.mark.parametrize(("name", "every"), [("gem", 1), ("demo", 5), ("riveg", 5), ("modern", 5), ("mllm", 3)])
def test_cassette_with_any_changed_line_field_raises_e401(tmp_path: Path, name: str, every: int) -> None:
    """Every field of one cassette; each fifth of the others, to save time (all passed once, docs/reliability.md)."""
    tape = tmp_path / "tape"
    shutil.copytree(CASSETTES / name, tape)
    rows, tries = rows_of(tape), 0
    whole = (tape / LINES).read_bytes()
    lines = whole.splitlines(keepends=True)
    assert dumped(rows) == whole
    for number, row in enumerate(rows):
        before, after = b"".join(lines[:number]), b"".join(lines[number + 1 :])
        for path in [*fields(row)][number % every :: every]:
            (tape / LINES).write_bytes(before + dumped([tampered(row, path)]) + after)
            with pytest.raises(NamepinError, match="E401"):
                Cassette.load(tape)  # what every replay, sweep and trace begins with
            tries += 1
    assert tries > 500
    (tape / LINES).write_bytes(whole)
    assert outcome(tape) == Exit.DONE


@pytest.mark.parametrize("name", ["demo", "gem", "riveg", "modern", "mllm"])
def test_cassette_with_any_changed_manifest_field_is_refused(tmp_path: Path, name: str) -> None:
    tape = tmp_path / "tape"
    shutil.copytree(CASSETTES / name, tape)
    manifest = json.loads((tape / MANIFEST).read_text("utf-8"))
    tries = 0
    for path in fields(manifest):
        (tape / MANIFEST).write_text(json.dumps(tampered(manifest, path)), "utf-8")
        with pytest.raises(NamepinError, match="E401"):
            Cassette.load(tape)
        tries += 1
    (key,) = list(manifest["setups"])[:1]
    for changed in (
        {**manifest, "more": 1},
        {**manifest, "format": 2.0},
        {**manifest, "format": True},
        {**manifest, "setups": {"0" * 64: manifest["setups"][key]}},
        {**manifest, "setups": {}},
        [],
        None,
        "x",
    ):
        (tape / MANIFEST).write_text(json.dumps(changed), "utf-8")
        assert outcome(tape) == Exit.UNUSABLE, changed
    assert tries > 30


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[:-1],
        lambda lines: lines[:-2] + lines[-1:],
        lambda lines: lines[1:],
        lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines, b"\n"],
        lambda lines: [*lines[:-1], lines[-1].rstrip(b"\n")],
        lambda lines: [lines[0].replace(b":", b": ", 1), *lines[1:]],
        lambda lines: [],
        lambda lines: [b"\0" * 100],
        lambda lines: [b"[" * 100_000 + b"\n"],
    ],
)
def test_cassette_with_cut_or_added_lines_is_refused(tape: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    lines = (tape / LINES).read_bytes().splitlines(keepends=True)
    (tape / LINES).write_bytes(b"".join(change(lines)))
    assert outcome(tape) == Exit.UNUSABLE


def test_cassette_with_changed_or_renamed_blob_is_refused(tape: Path) -> None:
    blob = next((tape / "blobs").iterdir())
    whole = blob.read_bytes()
    for data in (b"", whole[:-1], whole + b"x", bytes([whole[0] ^ 1]) + whole[1:]):
        blob.write_bytes(data)
        assert outcome(tape) == Exit.UNUSABLE
    blob.write_bytes(whole)
    assert outcome(tape) == Exit.DONE
    blob.rename(blob.with_name("0" * 64))
    assert outcome(tape) == Exit.UNUSABLE


@pytest.mark.parametrize("seed", range(4))
def test_cassette_with_recomputed_digests_replays_or_raises_coded_error(tape: Path, seed: int) -> None:
    """A digest is no signature. What it lets through must still end in 0, 2 or 4, never in a bug."""
    rng, rows = random.Random(seed), rows_of(tape)[:-1]
    every = [(number, path) for number, row in enumerate(rows) for path in fields(row)]
    seen = set()
    for number, path in rng.sample(every, 25):
        changed = tampered(rows[number], path)
        if rng.random() < 0.3:
            changed = rng.choice([[], None, 7, {}, {"kind": "call"}, {**rows[number], "kind": "step"}])
        body = dumped([*rows[:number], changed, *rows[number + 1 :]])
        (tape / LINES).write_bytes(body + end_line(body))
        seen.add(outcome(tape))
    assert seen <= {Exit.DONE, Exit.UNUSABLE, Exit.DIVERGED} and Exit.UNUSABLE in seen


def test_cassette_with_rewritten_setup_replays_or_raises_coded_error(tape: Path) -> None:
    manifest = json.loads((tape / MANIFEST).read_text("utf-8"))
    ((key, setup),) = manifest["setups"].items()
    for path in fields({name: value for name, value in setup.items() if name != "profile"}):
        changed = tampered(setup, path)
        body = dumped(rows_of(tape)[:-1]).replace(key.encode(), digest(changed).encode())
        (tape / LINES).write_bytes(body + end_line(body))
        (tape / MANIFEST).write_text(json.dumps({"format": 2, "setups": {digest(changed): changed}}), "utf-8")
        assert outcome(tape) in (Exit.DONE, Exit.UNUSABLE, Exit.DIVERGED), path
        shutil.copy(GEM / LINES, tape / LINES)


@pytest.mark.parametrize(
    "key",
    ["/etc/hostname", "../manifest.json", "..", "", "a" * 63, "A" * 64, "a" * 64 + "\n", "a" * 65, "\0" * 64, 7, None],
)
def test_cassette_with_blob_key_not_digest_is_refused(tape: Path, key: Any) -> None:
    rows = rows_of(tape)[:-1]
    row = next(row for row in rows if row.get("blobs"))
    row["blobs"] = [key]
    body = dumped(rows)
    (tape / LINES).write_bytes(body + end_line(body))
    assert outcome(tape) == Exit.UNUSABLE


@pytest.mark.parametrize("name", [MANIFEST, LINES, "blobs", ".lock"])
@pytest.mark.parametrize("dangling", [False, True])
def test_cassette_with_links_raises_e401(tmp_path: Path, tape: Path, name: str, dangling: bool) -> None:
    outside = tmp_path / "outside"
    if (tape / name).exists():
        (tape / name).rename(outside)
    else:
        outside.write_bytes(b"")
    if outside.is_dir():
        for foreign in ("letter.txt", "f" * 64):
            (outside / foreign).write_text("private")
    before = {path.name: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()}
    (tape / name).symlink_to(tmp_path / "nothing" if dangling else outside)
    with pytest.raises(NamepinError, match="E401.*link"):
        record(tape, ["Anna"])
    if name != ".lock":
        assert outcome(tape) == Exit.UNUSABLE
    assert {path.name: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()} == before
    assert not (tmp_path / "nothing").exists()


def test_cassette_with_linked_blob_is_refused_and_foreign_files_remain(tmp_path: Path, tape: Path) -> None:
    blob = next((tape / "blobs").iterdir())
    blob.rename(tmp_path / "outside")
    blob.symlink_to(tmp_path / "outside")
    assert outcome(tape) == Exit.UNUSABLE
    other = tmp_path / "other"
    record(other, ["Anna was here"])
    (other / "blobs" / "notes.txt").write_text("mine")
    (other / "blobs" / ("a" * 64)).symlink_to(tmp_path / "outside")
    record(other, ["Bob"])
    assert (other / "blobs" / "notes.txt").read_text() == "mine" and (tmp_path / "outside").exists()
    os.mkfifo(tmp_path / "pipe")
    (other / LINES).unlink()
    (tmp_path / "pipe").rename(other / LINES)
    assert outcome(other) == Exit.UNUSABLE


def unsealed(directory: Path) -> None:
    """A cassette as format 1 had it."""
    lines = (directory / LINES).read_bytes()
    (directory / LINES).write_bytes(lines[: lines.rindex(b'{"kind":"end"')])
    text = (directory / MANIFEST).read_text("utf-8")
    (directory / MANIFEST).write_text(text.replace('"format": 2', '"format": 1'), "utf-8")


def test_seal_of_old_form_requires_exact_replay(tape: Path) -> None:
    whole = {name: (tape / name).read_bytes() for name in (MANIFEST, LINES)}
    unsealed(tape)
    assert outcome(tape) == Exit.UNUSABLE, "the old form has no digests, so it is not replayed"
    seal(tape)
    assert {name: (tape / name).read_bytes() for name in whole} == whole
    unsealed(tape)
    text = (tape / LINES).read_text("utf-8")
    (tape / LINES).write_text(text.replace('"score":', '"score":1', 1), "utf-8")
    changed = (tape / LINES).read_bytes()
    with pytest.raises(NamepinError, match="E40[13]"):
        seal(tape)
    assert (tape / LINES).read_bytes() == changed


def _record(directory: Path, name: str) -> None:
    record(directory, [f"{name} was here"])


def test_cassette_with_concurrent_recordings_holds_every_post(tmp_path: Path) -> None:
    """Three processes record one post each into one folder."""
    names = [f"Anna{number}" for number in range(3)]
    processes = [Forked(_record, tmp_path / "tape", name) for name in names]
    for process in processes:
        _, said = process.communicate()
        assert process.wait() == 0, said.decode()
    assert {result.id for result in replay(tmp_path / "tape", check=True)} == set(names)
    threads = [list(replay(tmp_path / "tape", check=True)) for _ in range(2)]
    assert threads[0] == threads[1]
