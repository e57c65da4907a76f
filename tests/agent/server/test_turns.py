"""A slow language model delays only the posts that call it, and no other post of the same profile."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fastapi.testclient import TestClient

from namepin.agent.config.settings import load_settings
from namepin.agent.server.access import TooMany
from namepin.agent.server.admission import Admission
from namepin.agent.server.app import create_app
from namepin.graphs.calls import TURN, LiveCalls
from namepin.tools.interfaces import KnowledgeRequest
from namepin.tools.llm.permission import REQUESTS_ALLOWED, RequestNeeded
from namepin.tools.media import Media
from support.served import HOST
from support.slow_model import SlowModel, slow_model
from support.waiting import wait_until

ASKING = 4
KEPT, PLAIN = "Bob Dylan in Oslo", "nothing to see in here today"


@pytest.fixture
def model() -> Iterator[SlowModel]:
    with slow_model() as server:
        yield server


@pytest.mark.parametrize("role", ["knowledge", "reranker"])
def test_posts_without_llm_request_overtake_waiting_ones(role: str, model: SlowModel, tmp_path: Path) -> None:
    chat = {"backend": "chat", "model": "m", "base_url": model.url, "cache_dir": tmp_path / "cache"}
    sets = [f"{role}.{key}={value}" for key, value in chat.items()] + ["gate.gamma=0.0"]
    sets += ["serve.at_once=1", f"serve.waiting={ASKING}", f"serve.asking={ASKING}"]
    app = create_app(load_settings("starter", assignments=sets), assignments=sets, tokens={}, folder=tmp_path)

    def post(text: str) -> Any:
        return client.post("/api/extract", json={"text": text})

    with TestClient(app, HOST) as client, ThreadPoolExecutor(ASKING) as crowd:
        assert post(KEPT).json()["status"] == "ok"
        model.free.clear()
        slow = [crowd.submit(post, f"Bob Dylan in Oslo, number {n}") for n in range(ASKING)]
        try:
            wait_until(lambda: counts(client) == (0, 0, ASKING), "all that may ask do")
            served = [post(KEPT), *([post(PLAIN)] if role == "reranker" else [])]
            assert [answer.status_code for answer in served] == [200] * len(served)
            refused = post("Bob Dylan in Oslo, one too many")
            assert (refused.status_code, refused.json()["code"]) == (429, "E343")
            assert not any(waiting.done() for waiting in slow)
        finally:
            model.free.set()
        for waited in slow:
            assert waited.result().status_code == 200 and waited.result().json()["status"] == "ok"
            assert any(role in entity["provenance"] for entity in waited.result().json()["entities"])
        assert counts(client) == (0, 0, 0)


def counts(client: TestClient) -> tuple[int, int, int]:
    """Posts that run, wait, ask."""
    health = client.get("/api/health").json()
    return health["running"], health["waiting"], health["asking"]


async def test_admission_gives_returning_post_precedence_over_new_one() -> None:
    admission, order = Admission(at_once=1, waiting=2, asking=1), list[str]()
    answered, computed = asyncio.Event(), asyncio.Event()

    async def asks() -> None:
        async with admission.turn():
            turn = TURN.get()
            assert turn
            async with turn.away():
                await answered.wait()
            order.append("asked")

    async def computes(name: str) -> None:
        async with admission.turn():
            order.append(name)
            await computed.wait()

    begun = asyncio.create_task(asks())
    await asyncio.sleep(0)
    first = asyncio.create_task(computes("first"))
    await asyncio.sleep(0)
    second = asyncio.create_task(computes("second"))
    await asyncio.sleep(0)
    assert (admission.running, admission.waiting, admission.asking) == (1, 1, 1)
    answered.set()
    for _ in range(5):  # the answered post stands in line again
        await asyncio.sleep(0)
    computed.set()
    await asyncio.gather(begun, first, second)
    assert order == ["first", "asked", "second"]
    assert (admission.running, admission.waiting, admission.asking) == (0, 0, 0)


async def test_admission_branches_of_one_post_share_one_turn() -> None:
    admission = Admission(at_once=1, waiting=0, asking=1)
    ends = [asyncio.Event() for _ in range(3)]

    async def branch(end: asyncio.Event) -> None:
        turn = TURN.get()
        assert turn
        async with turn.away():
            await end.wait()

    async with admission.turn():
        branches = [asyncio.create_task(branch(end)) for end in ends]
        for end in ends:
            await asyncio.sleep(0)
            assert (admission.running, admission.asking) == (0, 1)
            end.set()
            await asyncio.sleep(0.01)
        await asyncio.gather(*branches)
        assert admission.running == 1
        with pytest.raises(TooMany):
            async with admission.turn():
                pass
    assert (admission.running, admission.asking) == (0, 0)


@pytest.mark.parametrize("when", ["away", "coming back"])
async def test_admission_after_cancelled_post_frees_turn(when: str) -> None:
    admission, answered = Admission(at_once=1, waiting=1, asking=1), asyncio.Event()

    async def asks() -> None:
        async with admission.turn():
            turn = TURN.get()
            assert turn
            async with turn.away():
                await answered.wait()

    post = asyncio.create_task(asks())
    await asyncio.sleep(0)
    async with admission.turn():
        if when == "coming back":
            answered.set()
            await asyncio.sleep(0)
        post.cancel()
        await asyncio.gather(post, return_exceptions=True)
        assert (admission.running, admission.waiting, admission.asking) == (1, 0, 0)
    async with admission.turn():
        assert admission.running == 1
    assert admission.running == 0


async def test_admission_turn_after_failed_request_is_regained() -> None:
    admission = Admission(at_once=1, waiting=0, asking=1)
    async with admission.turn():
        turn = TURN.get()
        assert turn
        with pytest.raises(OSError, match="down"):
            async with turn.away():
                raise OSError("down")
        assert admission.running == 1


async def test_live_calls_without_admission_call_tool_once() -> None:
    called = []

    class Asking:
        name: ClassVar[str] = "knowledge"
        version: ClassVar[int] = 1
        fingerprint = "f"

        def run(self, requests: Sequence[Any], media: Media) -> Sequence[Any]:
            called.append((REQUESTS_ALLOWED.get(), threading.current_thread().name.split("_")[0]))
            if not REQUESTS_ALLOWED.get():
                raise RequestNeeded
            return requests

    calls = LiveCalls({"knowledge": Asking()})
    request = KnowledgeRequest(text="x")
    assert await calls.call("knowledge", request, Media()) == request
    assert [may for may, _ in called] == [True]
    async with Admission(at_once=1, waiting=0, asking=1).turn():
        await calls.call("knowledge", request, Media())
    assert called[1:] == [(False, "namepin-computing"), (True, "namepin-asking")]


async def test_live_calls_use_as_many_threads_as_posts_at_once() -> None:
    """Each thread keeps memory of the largest post it has seen, so their number bounds that."""
    threads = set[str]()

    class Computing:
        name: ClassVar[str] = "tagger"
        version: ClassVar[int] = 1
        fingerprint = "f"

        def run(self, requests: Sequence[Any], media: Media) -> Sequence[Any]:
            threads.add(threading.current_thread().name)
            time.sleep(0.002)
            return requests

    calls, admission = LiveCalls({"tagger": Computing()}), Admission(at_once=2, waiting=100, asking=1)

    async def post() -> None:
        async with admission.turn():
            await asyncio.gather(*(calls.call("tagger", KnowledgeRequest(text="x"), Media()) for _ in range(3)))

    await asyncio.gather(*(post() for _ in range(20)))
    assert len(threads) == 2
