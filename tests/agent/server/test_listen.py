"""The end of a server, and its idle connections."""

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from namepin.agent.server.listen import listen
from support.forked import Forked
from support.odd_servers import bare, short_grace
from support.paths import ROOT
from support.processes import answers, environment, free_port
from support.slow_model import slow_model
from support.waiting import PATIENCE_S, wait_until


def test_serve_on_sigterm_exits_0_despite_pending_llm_request(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = environment(NAMEPIN_DATA_DIR=str(tmp_path), NAMEPIN_CACHE_DIR=str(tmp_path / "cache"))
    with slow_model() as model, ThreadPoolExecutor(1) as client:
        model.free.clear()
        sets = [part for value in ("model=m", f"base_url={model.url}") for part in ("--set", f"knowledge.{value}")]
        server = Forked(short_grace, ["serve", "--no-page", "--port", str(port), *sets], env=env, cwd=ROOT)
        try:
            asking = client.submit(_ask, url)
            wait_until(lambda: model.asked or asking.done(), "the server asks the model")
            assert model.asked and not asking.done()
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0, server.log.read_text()
            assert not model.free.is_set(), "the question would take for ever"
            assert asking.result() != 200, "cut off, and the client knows"
        finally:
            server.kill()
            server.communicate()


def _ask(url: str) -> int | str:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        try:
            return httpx.post(f"{url}/extract", json={"text": "Bob Dylan in Oslo"}, timeout=None).status_code
        except httpx.ConnectError:  # not up yet
            time.sleep(0.05)
        except httpx.HTTPError as error:
            return type(error).__name__
    return "never up"


REQUEST = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"


class KeepAlive:
    """An idle server, and connections to it that were used once."""

    def __init__(self, keep_alive_s: float | None) -> None:
        port = free_port()
        self.process = Forked(bare, port, keep_alive_s)
        wait_until(lambda: answers(port), "the server listens")
        self.connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(4)]

    def ask(self) -> None:
        for connection in self.connections:
            connection.sendall(REQUEST)

    def answered(self) -> list[bool]:
        return [_whole(connection) for connection in self.connections]

    def has_closed_all(self) -> bool:
        """Wait until the server ends each connection or sends more on it."""
        return not any(connection.recv(1) for connection in self.connections)

    def end(self) -> None:
        for connection in self.connections:
            connection.close()
        self.process.kill()
        self.process.communicate()


def _whole(connection: socket.socket) -> bool:
    """Whether a whole answer comes before the connection ends."""
    got = b""
    with suppress(ConnectionResetError):
        while not got.endswith(b"ok") and (piece := connection.recv(4096)):
            got += piece
    return got.startswith(b"HTTP/1.1 200") and got.endswith(b"ok")


def test_listen_keeps_idle_connection_open_for_next_request() -> None:
    """What broke a run under load: the server had closed a kept connection when its next request came."""
    short, ours = servers = [KeepAlive(0.3), KeepAlive(None)]  # the latter as `namepin serve` has it
    try:
        for server in servers:
            server.ask()
            assert all(server.answered())
        assert short.has_closed_all()
        ours.ask()
        assert all(ours.answered())
    finally:
        for server in servers:
            server.end()


def test_listen_keep_alive_exceeds_client_idle_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[Any] = []

    def run(server: uvicorn.Server) -> None:
        server.started = True
        configs.append(server.config)

    monkeypatch.setattr(uvicorn.Server, "run", run)
    before = signal.getsignal(signal.SIGTERM)
    assert listen(object(), "127.0.0.1", 1) == 0
    # httpx keeps them 5 s, which is uvicorn's default, too; load balancers 60 s.
    assert configs[0].timeout_keep_alive > 60
    assert signal.getsignal(signal.SIGTERM) is before
