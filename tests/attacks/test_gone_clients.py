"""Clients that give up and ask again: posts that nobody waits for any more take no turn."""

import json
import socket
import threading
from pathlib import Path

import httpx
import pytest
import uvicorn

from namepin.agent.config.settings import load_settings
from namepin.agent.server.access import ClientGone
from namepin.agent.server.admission import Admission
from namepin.agent.server.app import create_app
from namepin.graphs.calls import LiveCalls
from support.processes import free_port
from support.waiting import wait_until


async def test_post_of_a_gone_client_passes_its_turn_on() -> None:
    import asyncio

    admission, done = Admission(at_once=1, waiting=8, asking=8), list[str]()

    async def gone() -> bool:
        return True

    async def post(name: str, left: bool) -> None:
        try:
            async with admission.turn(gone=gone if left else None):
                done.append(name)
        except ClientGone:
            done.append(f"{name} is gone")

    async with admission.turn():
        waiting = [asyncio.create_task(post(name, left)) for name, left in (("a", True), ("b", True), ("c", False))]
        while admission.waiting < 3:
            await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert done == ["a is gone", "b is gone", "c"]
    assert (admission.running, admission.waiting) == (0, 0)


def test_server_works_on_no_post_whose_client_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worked, hold = list[str](), threading.Event()
    call = LiveCalls.call

    async def slow(self: LiveCalls, tool: str, request: object, media: object) -> object:
        if tool == "tagger":
            worked.append(getattr(request, "text", ""))
            import asyncio

            await asyncio.to_thread(hold.wait)
        return await call(self, tool, request, media)  # type: ignore[arg-type]

    monkeypatch.setattr(LiveCalls, "call", slow)
    settings = load_settings("starter", assignments=["serve.at_once=1", "matcher.backend=off"], environment={})
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(create_app(settings, tokens={}, folder=tmp_path), "127.0.0.1", port, log_level="error")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    url = f"http://127.0.0.1:{port}/api"

    def waiting() -> int:
        return int(httpx.get(f"{url}/health", timeout=None).json()["waiting"])

    def begin(text: str) -> socket.socket:
        body = json.dumps({"text": text}).encode()
        head = f"POST /api/extract HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
        sent = socket.create_connection(("127.0.0.1", port))
        sent.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return sent

    try:
        wait_until(lambda: server.started, "the server listens")
        first = begin("Bob Dylan in Oslo")
        wait_until(lambda: len(worked) == 1, "the first post is worked on")
        gone = [begin(f"Ada Lovelace {number}") for number in range(5)]
        wait_until(lambda: waiting() == 5, "five wait")
        for one in gone:
            one.close()
        last = begin("Paris Hilton in Paris")
        wait_until(lambda: waiting() == 6, "the last one waits behind them")
        hold.set()
        for one in (first, last):
            assert one.recv(12) == b"HTTP/1.1 200"
            one.close()
        assert worked == ["Bob Dylan in Oslo", "Paris Hilton in Paris"]
    finally:
        hold.set()
        server.should_exit = True
        thread.join()
