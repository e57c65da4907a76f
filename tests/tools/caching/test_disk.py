"""The cache of answers: stored, shared, bounded, and never the cause of a failure."""

import logging
import multiprocessing
import os
import sqlite3
import threading
from pathlib import Path

import pytest
from pydantic import BaseModel

from namepin.tools.caching.disk import DiskCache, default_cache_dir


class Question(BaseModel):
    text: str


def kept(cache: DiskCache, names: str) -> str:
    return "".join(name for name in names if cache.get("f", Question(text=name)) is not None)


def test_disk_cache_answers_persist_per_fingerprint_and_request(tmp_path: Path) -> None:
    DiskCache(tmp_path).put("f", Question(text="é"), "an answer\n😂")
    cache = DiskCache(tmp_path)
    assert cache.get("f", Question(text="é")) == "an answer\n😂"
    assert cache.get("g", Question(text="é")) is None
    assert cache.get("f", Question(text="e")) is None
    cache.put("f", Question(text="é"), "another")
    assert cache.get("f", Question(text="é")) == "another"


def test_disk_cache_file_contains_no_request_text(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "deep" / "folder")
    cache.put("f", Question(text="a private post"), "answer")
    assert b"private" not in cache.path.read_bytes()
    assert os.name == "nt" or cache.path.parent.stat().st_mode & 0o077 == 0


def test_disk_cache_beyond_capacity_evicts_least_recently_used(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=30)
    for name in "abc":
        cache.put("f", Question(text=name), name * 10)
    assert kept(cache, "a") == "a"  # now the newest
    cache.put("f", Question(text="d"), "é" * 5)  # ten bytes, five characters
    assert kept(cache, "abcd") == "acd"
    cache.put("f", Question(text="huge"), "x" * 31)
    assert kept(cache, "acd") == "acd"


def test_disk_cache_put_many_keeps_sum_of_sizes_right(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, max_bytes=30)
    cache.put_many("f", [(Question(text=name), name * 10) for name in "abcd"])
    assert kept(cache, "abcd") == "bcd"
    cache.put("f", Question(text="b"), "b")  # replaced: 21 bytes
    cache.put("f", Question(text="e"), "e" * 9)
    assert kept(cache, "bcde") == "bcde"
    with sqlite3.connect(cache.path) as table:  # a file of before the sum was kept
        table.execute("DROP TABLE held")
    table.close()
    cache.put("f", Question(text="f"), "f")
    assert kept(cache, "bcdef") == "cdef"


def fill(folder: Path, start: int) -> None:
    cache = DiskCache(folder)
    for i in range(start, start + 20):
        cache.put("f", Question(text=str(i)), f"answer {i}")
    cache.put_many("f", [(Question(text=str(i)), f"answer {i}") for i in range(start + 20, start + 25)])


def test_disk_cache_with_threads_and_processes_keeps_every_answer(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=fill, args=(tmp_path, 0))
    process.start()
    threads = [threading.Thread(target=fill, args=(tmp_path, start)) for start in (20, 50)]
    for worker in threads:
        worker.start()
    for worker in (*threads, process):
        worker.join()
    assert process.exitcode == 0
    cache = DiskCache(tmp_path)
    expected = [*range(45), *range(50, 75)]
    assert [cache.get("f", Question(text=str(i))) for i in expected] == [f"answer {i}" for i in expected]


@pytest.mark.parametrize("damage", ["garbage", "folder", "other schema", "no folder"])
def test_disk_cache_with_bad_file_warns_once(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = DiskCache(tmp_path / "cache")
    if damage == "no folder":
        (tmp_path / "cache").write_text("a file where the folder should be")
    else:
        (tmp_path / "cache").mkdir()
    if damage == "garbage":
        cache.path.write_bytes(b"no database " * 100)
    if damage == "folder":
        cache.path.mkdir()
    if damage == "other schema":
        connection = sqlite3.connect(cache.path)
        connection.execute("CREATE TABLE answers (key)")
        connection.close()
    with caplog.at_level(logging.WARNING):
        cache.put("f", Question(text="a"), "answer")
        assert cache.get("f", Question(text="a")) is None
    assert len(caplog.records) == 1 and "cannot be used" in caplog.text


def test_default_cache_dir_follows_environment_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NAMEPIN_CACHE_DIR", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("NAMEPIN_CACHE_DIR")
    assert default_cache_dir().name == "namepin"
