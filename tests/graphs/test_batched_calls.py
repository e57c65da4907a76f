"""Batched calls: answered together, failing alone, hung tools and cancelled waits."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from namepin.graphs.batched_calls import BatchedCalls
from namepin.graphs.calls import TransientFailure
from namepin.tools.errors import ToolUnavailable
from namepin.tools.interfaces import Query, TagRequest, Tags, TraceQuery, TraceRequest
from namepin.tools.media import Media
from support.scripted_tools import IMAGE, ScriptedTracer
from support.waiting import PATIENCE_S, wait_until


class Counting:
    """A tagger that keeps the sizes of its batches, and fails for the text `bad`."""

    name: ClassVar[str] = "tagger"
    version: ClassVar[int] = 1
    fingerprint = "f"

    def __init__(self, error: Exception | None = None) -> None:
        self.sizes: list[int] = []
        self.gate, self.error = threading.Event(), error

    def run(self, requests: Sequence[Any], media: Media) -> list[Tags]:
        self.gate.wait()
        self.sizes.append(len(requests))
        if any(request.text == "bad" for request in requests):
            raise self.error or ValueError("bad")
        return [Tags(tokens=(request.text,), mentions=()) for request in requests]


async def happens(condition: Callable[[], object]) -> None:
    """As `support.waiting.wait_until`, while the loop goes on."""
    await asyncio.to_thread(wait_until, condition, "what the test sets off")


async def ask(calls: BatchedCalls, tool: Counting, texts: Sequence[str]) -> list[Any]:
    asked = [asyncio.create_task(calls.call("tagger", TagRequest(text=text), Media())) for text in texts]
    await asyncio.sleep(0)  # all are in the line
    tool.gate.set()
    return await asyncio.gather(*asked, return_exceptions=True)


def test_batched_calls_group_waiting_requests_and_keep_order() -> None:
    tool = Counting()
    calls = BatchedCalls({"tagger": tool}, most=8)
    found = asyncio.run(ask(calls, tool, [str(i) for i in range(12)]))
    assert [tags.tokens[0] for tags in found] == [str(i) for i in range(12)]
    assert sum(tool.sizes) == 12 and max(tool.sizes) == 8
    calls.close()


def test_batched_calls_with_one_failing_request_fail_only_that_one() -> None:
    tool = Counting()
    found = asyncio.run(ask(BatchedCalls({"tagger": tool}), tool, ["a", "bad", "b", "c"]))
    assert [isinstance(one, ValueError) for one in found] == [False, True, False, False]
    tool = Counting(ConnectionError("http://me:secret@host"))
    [failed] = asyncio.run(ask(BatchedCalls({"tagger": tool}), tool, ["bad"]))
    assert isinstance(failed, TransientFailure) and "secret" not in str(failed)


def test_batched_calls_with_hung_tool_raise_tool_unavailable() -> None:
    tool = Counting()
    calls = BatchedCalls({"tagger": tool}, timeout_s=0.05)
    with pytest.raises(ToolUnavailable, match="no answer within") as caught:
        asyncio.run(calls.call("tagger", TagRequest(text="a"), Media()))
    assert not isinstance(caught.value, TransientFailure)
    tool.gate.set()


def test_batched_calls_with_cancelled_wait_skip_its_request() -> None:
    tool = Counting()
    calls = BatchedCalls({"tagger": tool}, most=1)

    async def leave() -> Any:
        first = asyncio.create_task(calls.call("tagger", TagRequest(text="first"), Media()))
        second = asyncio.create_task(calls.call("tagger", TagRequest(text="bad"), Media()))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.sleep(0)
        tool.gate.set()
        return await first

    assert asyncio.run(leave()).tokens == ("first",) and tool.sizes == [1]


def test_batched_calls_return_blobs_to_their_post() -> None:
    calls = BatchedCalls({"tracer": ScriptedTracer(delay=lambda: 0.02)})

    async def both() -> list[set[bytes]]:
        media = [Media(), Media()]
        requests = [
            TraceRequest(image=IMAGE, queries=(TraceQuery(query=Query(text=t, label="PER", category="PER")),))
            for t in ("Ann", "Bo")
        ]
        await asyncio.gather(*(calls.call("tracer", r, m) for r, m in zip(requests, media, strict=True)))
        return [set(m.blobs.values()) for m in media]

    assert asyncio.run(both()) == [{b"Ann"}, {b"Bo"}]


def test_batched_calls_group_requests_by_length_oldest_first() -> None:
    tool = Counting()
    asked: list[list[str]] = []
    real = tool.run

    def run(requests: Sequence[Any], media: Media) -> list[Tags]:
        asked.append([request.text for request in requests])
        return real(requests, media)

    tool.run = run  # type: ignore[method-assign]
    texts = ["first", "x" * 90, "ab", "y" * 80, "cd", "z" * 70]
    calls = BatchedCalls({"tagger": tool}, most=3)

    async def busy_then_many() -> list[Any]:
        first = asyncio.create_task(calls.call("tagger", TagRequest(text="first"), Media()))
        await happens(lambda: asked)
        return [*await ask(calls, tool, texts[1:]), await first]

    found = asyncio.run(busy_then_many())
    assert [tags.tokens[0] for tags in found] == [*texts[1:], "first"]
    assert asked == [["first"], ["x" * 90, "y" * 80, "z" * 70], ["ab", "cd"]]


def test_batched_calls_wait_to_fill_batch_for_bounded_time() -> None:
    tool = Counting()
    tool.gate.set()

    async def one_by_one(number: int, wait_s: float) -> None:
        calls = BatchedCalls({"tagger": tool}, most=3, wait_s=wait_s)

        async def later(after_s: float) -> Any:
            await asyncio.sleep(after_s)
            return await calls.call("tagger", TagRequest(text="a"), Media())

        await asyncio.gather(*(later(0.02 * i) for i in range(number)))

    asyncio.run(one_by_one(3, wait_s=PATIENCE_S))
    asyncio.run(one_by_one(1, wait_s=0.2))
    assert tool.sizes == [3, 1]


def test_batched_calls_with_full_queue_block_further_requests() -> None:
    tool = Counting()
    calls = BatchedCalls({"tagger": tool}, most=1, room=2)

    async def many() -> list[Any]:
        asked = [asyncio.create_task(calls.call("tagger", TagRequest(text=str(i)), Media())) for i in range(9)]
        line = calls._lines["tagger"]
        await happens(lambda: (len(line._inside), len(line._outside)) == (2, 6))  # and one is being answered
        asked[8].cancel()
        asked[2].cancel()
        await asyncio.sleep(0)
        tool.gate.set()
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(many())
    assert [isinstance(one, asyncio.CancelledError) for one in found] == [i in (2, 8) for i in range(9)]
    assert sum(tool.sizes) == 7, "who left the line was not asked"


def test_batched_calls_across_threads_lose_no_request() -> None:
    tool = Counting()
    tool.gate.set()
    calls = BatchedCalls({"tagger": tool}, most=3, threads={"tagger": 4}, room=8, wait_s=0.001)
    answers: list[list[str]] = [[] for _ in range(4)]

    def worker(number: int) -> None:
        async def ask_many() -> None:
            texts = [f"{number}-{i}" for i in range(200)]
            found: Any = await asyncio.gather(*(calls.call("tagger", TagRequest(text=t), Media()) for t in texts))
            answers[number] = [tags.tokens[0] for tags in found]

        asyncio.run(ask_many())

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [[f"{number}-{i}" for i in range(200)] for number in range(4)]
    assert max(tool.sizes) == 3 and sum(tool.sizes) == 800
