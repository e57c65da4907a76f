"""Safe names for any text, and writes that a reader never sees half done."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from namepin.tools.files import atomic_path, atomic_stream, atomic_write, file_name, file_of, remove_leftovers

HOSTILE = [
    *("", ".", "..", "../../escaped", "a/b", "a\\b", "/etc/passwd", "C:\\x", "a\x00b", "nul", "CON.txt", "x" * 5000),
    *("\ud800", "~", "=", "=41", "A", "a=2Fb", "\xe9", "e\u0301", "李" * 200, " ", "a.", ".a", "a ", "x" * 121),
]
NAMES = st.one_of(st.text(st.characters(codec=None), max_size=300), st.text("./\\=~aA%con12", max_size=8))


@given(NAMES)
def test_file_name_of_any_text_is_one_safe_component(name: str) -> None:
    folder = Path("/folder")
    made = file_name(name, ".json")
    place = Path(os.path.normpath(folder / made))
    assert place.parent == folder and place.name == made
    assert made.isascii() and made.isprintable() and len(made) <= 200 and not made.startswith(".")
    assert made.split(".")[0].lower() not in ("con", "nul", "prn", "aux", "com1", "lpt2")


@given(NAMES, NAMES)
@example("a/b", "a=2Fb")
@example("x" * 121, "x" * 122)
@example("", "=")
@example("con", "=63on")
def test_file_name_of_two_texts_differs(one: str, other: str) -> None:
    assert (file_name(one) == file_name(other)) == (one == other)


def test_file_name_of_hostile_texts_is_distinct() -> None:
    assert len({file_name(name) for name in HOSTILE}) == len(set(HOSTILE))


@pytest.mark.parametrize("name", ["O_1", "17_06_10000", "2012-03.b", "post-1", "X" * 120])
def test_file_name_of_plain_id_stays_unchanged(name: str) -> None:
    assert file_name(name, ".xml") == f"{name}.xml"


def test_file_name_of_hostile_text_stays_in_folder(tmp_path: Path) -> None:
    inside = tmp_path / "deep" / "inside"
    inside.mkdir(parents=True)
    for name in HOSTILE:
        (inside / file_name(name, ".txt")).write_text(ascii(name), "utf-8")
    assert [path for path in tmp_path.rglob("*.txt") if path.parent != inside] == []
    assert len(list(inside.iterdir())) == len(set(HOSTILE))


def test_file_of_name_prefers_bare_name_over_safe_one(tmp_path: Path) -> None:
    (tmp_path / "ein Bild ü.jpg").touch()
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "a.jpg").touch()
    assert file_of(tmp_path, "ein Bild ü", ".jpg").name == "ein Bild ü.jpg"
    assert file_of(tmp_path, "2024/a", ".jpg") == tmp_path / "2024" / "a.jpg"
    assert file_of(tmp_path, "2024/b", ".jpg") == tmp_path / "2024=2Fb.jpg"


@pytest.mark.parametrize("name", HOSTILE)
def test_file_of_hostile_text_stays_in_folder(tmp_path: Path, name: str) -> None:
    (tmp_path.parent.parent / "escaped.jpg").touch()
    assert Path(os.path.normpath(file_of(tmp_path, name, ".jpg"))).parent == tmp_path


@pytest.mark.parametrize("data", ["text é", b"bytes \xff", [b"one", b"two"]], ids=["text", "bytes", "pieces"])
def test_atomic_write_replaces_file_without_leftover(tmp_path: Path, data: str | bytes | list[bytes]) -> None:
    path = tmp_path / "state.json"
    path.write_bytes(b"old")
    atomic_write(path, data)
    whole = data.encode() if isinstance(data, str) else data if isinstance(data, bytes) else b"".join(data)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]


def test_atomic_write_follows_umask(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    atomic_write(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_atomic_stream_after_error_keeps_old_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    atomic_write(path, b"old")
    with pytest.raises(KeyError), atomic_stream(path) as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_atomic_path_on_link_replaces_link_only(tmp_path: Path) -> None:
    outside, path = tmp_path / "outside", tmp_path / "link"
    outside.write_bytes(b"untouched")
    path.symlink_to(outside)
    with atomic_path(path) as partial:
        assert partial.parent == tmp_path and partial.read_bytes() == b""
        partial.write_bytes(b"new")
    assert outside.read_bytes() == b"untouched" and path.read_bytes() == b"new" and not path.is_symlink()


def test_atomic_write_syncs_data_before_replace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("replace"), replace(old, new))[1])
    atomic_write(tmp_path / "state", b"x")
    assert done == ["fsync", "replace", "fsync"]


KILLED = """
import os, signal, sys
from pathlib import Path
from namepin.tools.files import atomic_stream
with atomic_stream(Path(sys.argv[1])) as file:
    file.write(b"half" * 100_000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_atomic_stream_after_killed_writer_keeps_old_file(tmp_path: Path) -> None:
    path, other = tmp_path / "state[1].json", tmp_path / "state1.json"
    atomic_write(path, b"old")
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert path.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2
    remove_leftovers(other)
    assert len(list(tmp_path.iterdir())) == 2
    remove_leftovers(path)
    assert list(tmp_path.iterdir()) == [path]
