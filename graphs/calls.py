"""How the nodes of a graph call the tools: one awaitable call. The calls here are live; others record or replay."""

import asyncio
import sys
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from contextvars import Context, ContextVar, copy_context
from functools import partial
from typing import Any, Protocol, cast

from namepin.tools.base import Tool
from namepin.tools.errors import ToolUnavailable
from namepin.tools.llm.permission import REQUESTS_ALLOWED, RequestNeeded
from namepin.tools.media import Media
from namepin.tools.redaction import without_credentials
from namepin.tools.types import Frozen

AnyTool = Tool[Any, Any]


class TransientFailure(ToolUnavailable):
    """A call that may succeed when it is repeated: a refused connection, a timeout, a full GPU."""


class Calls(Protocol):
    """The tools of one profile, by role. One object serves any number of posts at once."""

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Role -> fingerprint of the tool that fills it; a role the profile leaves out is absent."""
        ...

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """One request to one tool.

        Raises:
            TransientFailure: the call failed, but a retry may succeed.
            ToolUnavailable: the call failed, and a retry would not help.
        """
        ...


class Turn(Protocol):
    """A post's turn to compute on this machine, for servers that limit how many posts compute at once."""

    @property
    def executor(self) -> Executor:
        """The threads that compute for posts with a turn."""
        ...

    def away(self) -> AbstractAsyncContextManager[Executor]:
        """Give the turn back while the block waits for another machine, then take it again.

        The block gets the executor whose threads may wait.
        """
        ...


TURN: ContextVar[Turn | None] = ContextVar("turn", default=None)
"""The turn of the current post; None where turns are not limited."""


class LiveCalls:
    """Calls the tools themselves, in worker threads, so that posts overlap while a tool computes or waits.

    A post with a turn (`TURN`) gives it back while a tool waits for its server. Cached answers need no server: the tool
    is first called with requests disabled, and again only on a miss.

    Args:
        tools: role -> tool; the graph skips the steps of absent roles.
        executor: where `Tool.run` runs for posts without a turn; None uses the event loop's own pool.
        timeout_s: a call without an answer after so many seconds counts as a failure of the tool. So one hung call
            cannot hang a batch.
    """

    def __init__(
        self, tools: Mapping[str, AnyTool], *, executor: Executor | None = None, timeout_s: float = 600.0
    ) -> None:
        self.tools, self.executor, self.timeout_s = dict(tools), executor, timeout_s
        self._fingerprints = {name: tool.fingerprint for name, tool in self.tools.items()}

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Role -> fingerprint."""
        return self._fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`."""
        turn, here = TURN.get(), copy_context()
        if turn is None:
            return await self._run(here, self.executor, tool, request, media)
        here.run(REQUESTS_ALLOWED.set, False)
        try:
            return await self._run(here, turn.executor, tool, request, media)
        except RequestNeeded:
            async with turn.away() as elsewhere:
                return await self._run(copy_context(), elsewhere, tool, request, media)

    async def _run(
        self, context: Context, executor: Executor | None, tool: str, request: Frozen, media: Media
    ) -> Frozen:
        run = partial(context.run, self.tools[tool].run, [request], media)
        work = asyncio.get_running_loop().run_in_executor(executor, run)
        done, _ = await asyncio.wait({work}, timeout=self.timeout_s)
        if not done:
            work.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody awaits it
            raise ToolUnavailable(tool, f"no answer within {self.timeout_s:g} s")
        try:
            return cast(Frozen, work.result()[0])
        except transient_errors() as error:
            raise TransientFailure(tool, without_credentials(f"{type(error).__name__}: {error}")) from error


def transient_errors() -> tuple[type[Exception], ...]:
    """The exceptions after which a retry may succeed."""
    # torch is used only where a tool has already loaded it: replay and --help must not pay for the import.
    torch = sys.modules.get("torch")
    return (ConnectionError, TimeoutError, *((torch.OutOfMemoryError,) if torch else ()))
