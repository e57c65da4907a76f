"""Batched calls: answered by groups, failing alone, hung tools and cancelled waits."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest

from namepin.graphs.batched_calls import MEMBER, BatchedCalls, Member, PostGroup
from namepin.graphs.calls import TransientFailure
from namepin.tools.errors import ToolUnavailable
from namepin.tools.interfaces import Query, TagRequest, Tags, TraceQuery, TraceRequest
from namepin.tools.media import Media
from support.scripted_tools import IMAGE, ScriptedTracer
from support.waiting import wait_until


class Counting:
    """A tagger that keeps the sizes of its batches, and fails for the text `bad`."""

    name: ClassVar[str] = "tagger"
    version: ClassVar[int] = 1
    fingerprint = "f"

    def __init__(self, error: Exception | None = None) -> None:
        self.sizes: list[int] = []
        self.gate, self.asked, self.error = threading.Event(), threading.Event(), error

    def run(self, requests: Sequence[Any], media: Media) -> list[Tags]:
        self.asked.set()
        self.gate.wait()
        self.sizes.append(len(requests))
        if any(request.text == "bad" for request in requests):
            raise self.error or ValueError("bad")
        return [Tags(tokens=(request.text,), mentions=()) for request in requests]


async def happens(condition: Callable[[], object]) -> None:
    """As `support.waiting.wait_until`, while the loop goes on."""
    await asyncio.to_thread(wait_until, condition, "what the test sets off")


TAGGER = frozenset({"tagger"})


async def ask(calls: BatchedCalls, tool: Counting, texts: Sequence[str], size: int | None = None) -> list[Any]:
    """Ask for each text, as posts of groups of `size`; by default all are one group."""
    size = size or len(texts)
    groups = [PostGroup(len(texts[i : i + size])) for i in range(0, len(texts), size)]

    async def one(number: int, text: str) -> Any:
        MEMBER.set(Member(groups[number // size], number % size))
        return await calls.call("tagger", TagRequest(text=text), Media())

    asked = [asyncio.create_task(one(number, text)) for number, text in enumerate(texts)]
    await asyncio.sleep(0)  # all are in the line
    tool.gate.set()
    return await asyncio.gather(*asked, return_exceptions=True)


def test_batched_calls_answer_groups_together_and_keep_order() -> None:
    tool = Counting()
    calls = BatchedCalls({"tagger": tool}, grouped=TAGGER)
    found = asyncio.run(ask(calls, tool, [str(i) for i in range(12)], size=8))
    assert [tags.tokens[0] for tags in found] == [str(i) for i in range(12)]
    assert tool.sizes == [8, 4]
    calls.close()


def test_batched_calls_of_ungrouped_tool_or_post_are_made_alone() -> None:
    tool = Counting()
    asyncio.run(ask(BatchedCalls({"tagger": tool}), tool, ["a", "b", "c"]))
    assert tool.sizes == [1, 1, 1]

    async def without_group() -> Any:
        return await BatchedCalls({"tagger": tool}, grouped=TAGGER).call("tagger", TagRequest(text="d"), Media())

    assert asyncio.run(without_group()).tokens == ("d",) and tool.sizes == [1, 1, 1, 1]


def test_post_group_calls_tool_in_post_order_once_every_post_arrived_passed_or_left() -> None:
    """One post comes late, one leaves early, one skips the tagger; each asks the tagger a second time, alone."""
    tool, asked = Counting(), list[list[str]]()
    real = tool.run

    def run(requests: Sequence[Any], media: Media) -> list[Tags]:
        asked.append([request.text for request in requests])
        return real(requests, media)

    tool.run = run  # type: ignore[method-assign]
    tool.gate.set()
    tracer = ScriptedTracer(delay=lambda: 0.0)
    calls = BatchedCalls({"tagger": tool, "tracer": tracer}, grouped=TAGGER)

    async def all_of_them() -> None:
        group = PostGroup(4)

        async def one(number: int, ticks: int) -> None:
            MEMBER.set(member := Member(group, number))
            for _ in range(ticks):
                await asyncio.sleep(0)
            if number == 2:
                query = TraceQuery(query=Query(text="Ann", label="PER", category="PER"))
                await calls.call("tracer", TraceRequest(image=IMAGE, queries=(query,)), Media())
            elif number != 1:
                await calls.call("tagger", TagRequest(text=f"{number}"), Media())
                await calls.call("tagger", TagRequest(text=f"{number} again"), Media())
            member.leave()

        await asyncio.gather(one(0, 30), one(1, 9), one(2, 20), one(3, 0))

    asyncio.run(all_of_them())
    assert asked[0] == ["0", "3"] and sorted(asked[1:]) == [["0 again"], ["3 again"]]


def test_batched_calls_with_one_failing_request_fail_only_that_one() -> None:
    tool = Counting()
    calls = BatchedCalls({"tagger": tool}, grouped=TAGGER)
    found = asyncio.run(ask(calls, tool, ["a", "bad", "b", "c"]))
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
    calls = BatchedCalls({"tagger": tool})

    async def leave() -> Any:
        first = asyncio.create_task(calls.call("tagger", TagRequest(text="first"), Media()))
        second = asyncio.create_task(calls.call("tagger", TagRequest(text="bad"), Media()))
        await asyncio.sleep(0.05)
        second.cancel()
        await asyncio.sleep(0)
        tool.gate.set()
        return await first

    assert asyncio.run(leave()).tokens == ("first",) and tool.sizes == [1]


def test_batched_calls_after_failed_group_skip_requests_that_nobody_awaits() -> None:
    tool = Counting()
    calls, group = BatchedCalls({"tagger": tool}, grouped=TAGGER), PostGroup(3)

    async def one(number: int, text: str) -> Any:
        MEMBER.set(Member(group, number))
        return await calls.call("tagger", TagRequest(text=text), Media())

    async def leave() -> Any:
        first, _, left = (asyncio.create_task(one(*at)) for at in enumerate(["first", "bad", "left"]))
        await happens(tool.asked.is_set)
        left.cancel()
        await asyncio.sleep(0)
        tool.gate.set()
        return await first

    assert asyncio.run(leave()).tokens == ("first",)
    wait_until(lambda: len(tool.sizes) > 2, "both other calls")
    assert tool.sizes == [3, 1, 1]


def test_batched_calls_return_blobs_to_their_post() -> None:
    calls = BatchedCalls({"tracer": ScriptedTracer(delay=lambda: 0.02)}, grouped=frozenset({"tracer"}))

    async def both() -> list[set[bytes]]:
        media = [Media(), Media()]
        requests = [
            TraceRequest(image=IMAGE, queries=(TraceQuery(query=Query(text=t, label="PER", category="PER")),))
            for t in ("Ann", "Bo")
        ]
        group = PostGroup(2)

        async def one(number: int) -> None:
            MEMBER.set(Member(group, number))
            await calls.call("tracer", requests[number], media[number])

        await asyncio.gather(one(0), one(1))
        return [set(m.blobs.values()) for m in media]

    assert asyncio.run(both()) == [{b"Ann"}, {b"Bo"}]


def test_batched_calls_with_full_queue_block_further_requests() -> None:
    tool = Counting()
    calls = BatchedCalls({"tagger": tool}, room=2)

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
    calls = BatchedCalls({"tagger": tool}, threads={"tagger": 4}, room=8)
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
    assert sum(tool.sizes) == 800
