"""A batch with failing language models or pictures: nothing is lost, and failures are reported."""

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.batch.local_engine import run_batch
from namepin.agent.batch.source import Source
from namepin.agent.batch.writing import Progress
from namepin.agent.config.build import batched_calls
from namepin.agent.config.settings import load_settings
from namepin.graphs.batched_calls import MEMBER, BatchedCalls, Member, PostGroup
from namepin.tools.interfaces import Knowledge, TagRequest
from namepin.tools.knowledge.chat import ChatKnowledge
from namepin.tools.media import Media
from namepin.tools.tagger.dual import DualTagger
from support import llm_process
from support.batch_samples import timeless, write_posts
from support.waiting import PATIENCE_S

POSTS, SOME = 40, 20
TEXT_ONLY = ("matcher.backend=off", "tracer.backend=off", "segmenter.backend=off")


def a_batch(
    posts: Path, out: Path, address: str, cache: Path, on_progress: Callable[[Progress], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Run it with a chat model at `address`; its predictions."""
    chat = ("backend=chat", f"base_url={address}", "model=m", "retries=1", "backoff_s=0.01", f"cache_dir={cache}")
    settings = load_settings("starter", assignments=[*TEXT_ONLY, *(f"knowledge.{one}" for one in chat)], environment={})
    run_batch(Namepin(settings, batched_calls(settings)), Source(str(posts)), out, on_progress=on_progress)
    return timeless(out / "predictions.jsonl")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of an undisturbed run."""
    folder = tmp_path_factory.mktemp("undisturbed")
    posts = write_posts(folder / "posts.jsonl", POSTS)
    process, address = llm_process.start()
    try:
        return a_batch(posts, folder / "whole", address, folder / "whole-cache")
    finally:
        process.kill()
        process.communicate()


def chance(row: dict[str, Any]) -> float:
    return hashlib.sha256(row["text"].encode()).digest()[0] / 256


def test_batch_after_sigkill_of_llm_server_degrades_lost_posts(tmp_path: Path, whole: list[dict[str, Any]]) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", POSTS)
    assert len(whole) == POSTS and all(row["status"] == "ok" for row in whole)
    process, address = llm_process.start()

    def kill(progress: Progress) -> None:
        if progress.done == 10:
            process.kill()

    rows = a_batch(posts, tmp_path / "out", address, tmp_path / "cache", kill)
    process.communicate()
    lost = [row["id"] for row in rows if row["status"] != "ok"]
    assert [row["id"] for row in rows] == [row["id"] for row in whole], "every post has its line, in order"
    assert 0 < len(lost) <= POSTS - 10
    for row, expected in zip(rows, whole, strict=True):
        if row["id"] in lost:
            assert row["status"] == "degraded" and [w["tool"] for w in row["warnings"]] == ["knowledge"]
        else:
            assert row == expected
    # The fix: process those posts again with a running server; earlier answers are not paid for twice.
    again = tmp_path / "again.jsonl"
    again.write_text("".join(line + "\n" for line in posts.read_text().splitlines() if json.loads(line)["id"] in lost))
    process, address = llm_process.start()
    rows = a_batch(again, tmp_path / "again", address, tmp_path / "cache")
    process.kill()
    asked = process.communicate()[0].splitlines()
    assert rows == [row for row in whole if row["id"] in lost] and len(asked) <= len(lost)


def test_batch_with_garbage_llm_answers_degrades_only_their_posts(tmp_path: Path, whole: list[dict[str, Any]]) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", SOME)
    process, address = llm_process.start("--garbage", "0.15", "--always", "0.05")
    rows = a_batch(posts, tmp_path / "out", address, tmp_path / "cache")
    process.kill()
    process.communicate()
    spoilt = [row for row in rows if row["status"] != "ok"]
    assert any(0.05 <= chance(row) < 0.15 for row in rows), "some first answers were garbage"
    assert spoilt and all(chance(row) < 0.05 for row in spoilt) and all(row["status"] == "degraded" for row in spoilt)
    for row, expected in zip(rows, whole[:SOME], strict=True):
        assert row["id"] == expected["id"] and (row == expected or row in spoilt)


def test_batch_with_picture_deleted_during_run_degrades_only_its_post(tmp_path: Path) -> None:
    picture = tmp_path / "late.jpg"
    Image.new("RGB", (64, 48), "white").save(picture)
    rows = [{"id": f"p{n}", "text": f"Bob {n}", "image": "late.jpg" if n in (0, 5) else None} for n in range(6)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = load_settings("starter", assignments=TEXT_ONLY, environment={})

    def delete(progress: Progress) -> None:
        if progress.done == 1:
            picture.unlink()

    pin = Namepin(settings, batched_calls(settings))
    run_batch(pin, Source(str(tmp_path / "posts.jsonl")), tmp_path / "out", at_once=1, together=1, on_progress=delete)
    found = timeless(tmp_path / "out" / "predictions.jsonl")
    assert [row["status"] for row in found] == ["ok"] * 5 + ["degraded"] and found[0]["image"]
    assert [notice["code"] for notice in found[5]["warnings"]] == ["W101"] and found[5]["entities"]


def test_tagger_alone_batched_and_threaded_gives_equal_mentions() -> None:
    """Scores agree to 1e-4 if posts share a batch, and exactly in threads of single posts."""
    settings = load_settings("starter", assignments=TEXT_ONLY, environment={})
    tagger = batched_calls(settings).tools["tagger"]
    texts = [f"{name} {'again ' * (n % 7)}and Angelina Jolie in Oslo" for n, name in enumerate(("NASA", "Bob") * 8)]
    requests = [TagRequest(text=text) for text in texts]
    alone = [tagger.run([request], Media())[0] for request in requests]

    async def through(size: int, threads: int) -> list[Any]:
        calls = BatchedCalls({"tagger": tagger}, grouped=frozenset({"tagger"}), threads={"tagger": threads})
        groups = [PostGroup(size) for _ in range(len(requests) // size)]

        async def one(number: int) -> Any:
            MEMBER.set(Member(groups[number // size], number % size))
            return await calls.call("tagger", requests[number], Media())

        return await asyncio.gather(*map(one, range(len(requests))))

    assert asyncio.run(through(1, 4)) == alone
    for found, expected in zip(asyncio.run(through(8, 2)), alone, strict=True):
        assert [m.text for m in found.mentions] == [m.text for m in expected.mentions] != []
        for one, other in zip(found.mentions, expected.mentions, strict=True):
            assert (one.label, one.fine_label) == (other.label, other.fine_label)
            assert one.scores == pytest.approx(other.scores, abs=1e-4)


def test_batch_with_slow_llm_does_not_block_other_posts(tmp_path: Path, monkeypatch: Any) -> None:
    """The model answers about the first post only when all others have been tagged."""
    posts, others = write_posts(tmp_path / "posts.jsonl", 12), set[str]()
    overlapped = threading.Event()
    slow = json.loads(posts.read_text().splitlines()[0])["text"]
    explain, tag = ChatKnowledge.run, DualTagger.run

    def held(self: Any, requests: Any, media: Any) -> list[Knowledge]:
        if requests[0].text == slow:
            assert overlapped.wait(PATIENCE_S), "the others waited for it"
        return explain(self, requests, media)

    def watched(self: Any, requests: Any, media: Any) -> Any:
        others.update(request.text for request in requests if request.text != slow)
        if len(others) == 11:
            overlapped.set()
        return tag(self, requests, media)

    monkeypatch.setattr(ChatKnowledge, "run", held)
    monkeypatch.setattr(DualTagger, "run", watched)
    process, address = llm_process.start()
    rows = a_batch(posts, tmp_path / "out", address, tmp_path / "cache")
    process.kill()
    process.communicate()
    assert overlapped.is_set() and [row["id"] for row in rows] == [f"p{i:04}" for i in range(12)]
    assert all(row["status"] == "ok" for row in rows)
