"""Namepin's servers as real processes on loopback, and calls to the MCP one from this process."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from support.forked import Forked, namepin
from support.waiting import wait_until

NAMEPIN = [sys.executable, "-c", "from namepin.agent.cli.main import run; run()"]
_KEPT = ("PATH", "HOME", "LANG", "OMP_NUM_THREADS", "VIRTUAL_ENV")


def environment(**more: str) -> dict[str, str]:
    """What a server of a test knows of this shell: nothing of its settings, keys and tracing."""
    return {name: os.environ[name] for name in _KEPT if name in os.environ} | more


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command: list[str], port: int, log: Path, env: Mapping[str, str], cwd: Path) -> Iterator[str]:
    """Another project's server, from when it answers on `port` until the block ends; yields its address."""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=dict(env), cwd=cwd)
        with _until_it_ends(process, port, log):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def running_namepin(*arguments: str, port: int, env: Mapping[str, str], cwd: Path) -> Iterator[str]:
    """`namepin ARGUMENTS --port PORT`, from when it answers until the block ends; yields its address."""
    process = namepin(*arguments, "--port", str(port), env=env, cwd=cwd)
    with _until_it_ends(process, port, process.log):
        yield f"http://127.0.0.1:{port}"
    process.communicate()


@contextmanager
def _until_it_ends(process: "subprocess.Popen[bytes] | Forked", port: int, log: Path) -> Iterator[None]:
    try:
        wait_until(lambda: answers(port) or process.poll() is not None, "the server listens")
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Mcp:
    """One connection to an MCP server: on stdio, or over HTTP with a token."""

    def __init__(self, server: StdioServerParameters | str, token: str | None = None) -> None:
        self.server, self.token = server, token

    async def __aenter__(self) -> "Mcp":
        async with AsyncExitStack() as stack:
            transport: Any = self.server
            if isinstance(self.server, str):
                headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
                http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=None))
                transport = streamable_http_client(self.server, http_client=http)
            self.client = await stack.enter_async_context(Client(transport))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exception: Any) -> None:
        await self._stack.__aexit__(*exception)

    async def call(self, tool: str, **arguments: Any) -> Any:
        """One tool's result."""
        return await self.client.call_tool(tool, arguments)


def stdio(folder: Path, *flags: str | Path) -> StdioServerParameters:
    """`namepin mcp`, keeping its things in `folder`."""
    command, *rest = NAMEPIN
    arguments = [*rest, "mcp", *map(str, flags)]
    return StdioServerParameters(command=command, args=arguments, env=environment(NAMEPIN_DATA_DIR=str(folder)))


def ask(server: StdioServerParameters | str, *calls: tuple[str, dict[str, Any]], token: str | None = None) -> list[Any]:
    """The results of some calls on one connection."""

    async def go() -> list[Any]:
        async with Mcp(server, token) as mcp:
            return [await mcp.call(tool, **arguments) for tool, arguments in calls]

    return asyncio.run(go())
