"""The cassette's folder: its content, additions, and damage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from namepin.graphs.recording.cassette import Cassette
from namepin.graphs.recording.replay import replay
from namepin.tools.errors import NamepinError
from support.recording import TEXT, lines, record, reseal
from support.scripted_tools import down, make_tools


def test_cassette_contains_no_path_or_secret(tmp_path: Path) -> None:
    tools = make_tools()
    tools["knowledge"].fail = down("knowledge")
    record(tmp_path, tools=tools)
    everything = "".join(path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file())
    assert "me:secret" not in everything and "no answer from http://***@host/v1" in everything
    assert "/home" not in everything and '"image":"photo.jpg"' in everything
    assert str(tmp_path) not in everything


def test_recorder_on_existing_folder_replaces_and_appends_posts(tmp_path: Path) -> None:
    record(tmp_path, ["Anna was here", "Bob too"])
    blobs = {path.name for path in (tmp_path / "blobs").iterdir()}
    again = record(tmp_path, ["Anna left", "Carla came"], make_tools("tagger"))
    assert [row["id"] for row in lines(tmp_path, "post")] == ["Anna", "Bob", "Carla"]
    results = list(replay(tmp_path, check=True))
    assert [result.text for result in results] == ["Anna left", "Bob too", "Carla came"]
    assert results[0].to_json() == again[0].to_json()
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert len(manifest["setups"]) == 2
    assert {path.name for path in (tmp_path / "blobs").iterdir()} < blobs, "blobs that nobody names are gone"
    record(tmp_path, ["Bob too"], make_tools("tagger"))
    assert len(json.loads((tmp_path / "manifest.json").read_text())["setups"]) == 1


def test_recorder_with_raising_post_omits_it(tmp_path: Path) -> None:
    tools = make_tools()
    tools["segmenter"].fail = lambda attempt: ValueError("a defect")
    with pytest.raises(ValueError, match="a defect"):
        record(tmp_path, ["no names", TEXT], tools)
    assert [row["id"] for row in lines(tmp_path, "post")] == ["no"]


def test_recorder_after_crash_during_write_keeps_old_cassette(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record(tmp_path, ["Anna"])
    writes = iter(range(100))

    def failing(source: Any, target: Any) -> None:
        if next(writes) == 1:
            raise OSError("disk full")
        shutil.move(source, target)

    monkeypatch.setattr("namepin.tools.files.os.replace", failing)
    with pytest.raises(NamepinError, match="E501.*disk full"):
        record(tmp_path, ["Anna left"], make_tools("tagger"))
    monkeypatch.undo()
    assert [result.text for result in replay(tmp_path, check=True)] == ["Anna"]
    assert not list(tmp_path.rglob("*.part"))


def test_recorder_with_unwritable_folder_raises_e501(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NamepinError, match="E501"):
        record(tmp_path / "file" / "tape", ["Anna"])


def spoil(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(tape: Path) -> None:
        text = (tape / name).read_text("utf-8")
        assert old in text
        (tape / name).write_text(text.replace(old, new, 1), "utf-8")

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "not a cassette"),
        (lambda tape: (tape / "cassette.jsonl").unlink(), "cassette.jsonl cannot be read"),
        (lambda tape: shutil.rmtree(tape / "blobs"), "cannot be read"),
        (lambda tape: (tape / "manifest.json").write_text("{"), "not JSON"),
        (lambda tape: (tape / "cassette.jsonl").write_bytes(b"\xff\n"), "changed after"),
        (spoil("manifest.json", '"format": 2', '"format": 9'), "format is 9, this version reads 2"),
        (spoil("manifest.json", '"format": 2', '"format": 1'), "format is 1.*namepin.graphs.recording.seal"),
        (spoil("manifest.json", '"gem-2"', "7"), "was changed after it was recorded"),
        (spoil("cassette.jsonl", '"kind":"call"', '"kind":"cull"'), "changed after it was recorded"),
        (lambda tape: reseal(tape, '"kind":"call"', '"kind":"cull"'), "line 2 cannot be read"),
        (lambda tape: reseal(tape, '"kind":"result"', '"kind":"'), "cannot be read"),
        (lambda tape: reseal(tape, '"setup":"', '"setup":"0'), "'Anna' is incomplete"),
    ],
)
def test_replay_of_damaged_cassette_raises_e401(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    record(tmp_path / "tape", ["Anna"])
    damage(tmp_path / "tape")
    with pytest.raises(NamepinError, match=f"E401: .*{message}"):
        list(replay(tmp_path / "tape"))


def test_cassette_load_and_save_keep_bytes(tmp_path: Path) -> None:
    record(tmp_path / "one")
    Cassette.load(tmp_path / "one").save(tmp_path / "two")
    for name in ("manifest.json", "cassette.jsonl"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
