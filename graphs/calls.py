"""How the nodes of a graph reach the tools: one awaitable call, live here, recorded or replayed elsewhere."""

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
    """A call that may well succeed when made again: a refused connection, a timeout, a full GPU."""


class Calls(Protocol):
    """The tools of one profile, by role. One object serves any number of posts at once."""

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Role -> fingerprint of the tool that fills it; a role the profile leaves out is absent."""
        ...

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """One request to one tool.

        Raises:
            TransientFailure: the call failed in a way that deserves another attempt.
            ToolUnavailable: the tool is down for good.
        """
        ...


class Turn(Protocol):
    """A post's turn at this machine, where posts have to wait for one."""

    @property
    def executor(self) -> Executor:
        """Computes for posts that have a turn."""
        ...

    def away(self) -> AbstractAsyncContextManager[Executor]:
        """Give the turn back while the block waits for another machine, in threads of the executor; then take it."""
        ...


TURN: ContextVar[Turn | None] = ContextVar("turn", default=None)
"""That of the post that is worked on; None where nobody counts turns."""


class LiveCalls:
    """Calls the tools themselves, in worker threads, so that posts overlap while a tool computes or waits.

    A post that has a turn (`TURN`) gives it back while a tool waits for its server. An answer that the tool keeps is
    had without that: the tool is called once to find out, and a second time to ask.

    Args:
        tools: role -> tool; a role that is absent is a step left out.
        executor: where `Tool.run` runs for posts without a turn; None takes the event loop's own pool.
        timeout_s: a tool that has not answered by then counts as down, so that one hung call cannot hang a batch.
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
            work.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody will ask for it
            raise ToolUnavailable(tool, f"no answer within {self.timeout_s:g} s")
        try:
            return cast(Frozen, work.result()[0])
        except transient_errors() as error:
            raise TransientFailure(tool, without_credentials(f"{type(error).__name__}: {error}")) from error


def transient_errors() -> tuple[type[Exception], ...]:
    """What a call may fail with and still deserve another attempt."""
    # torch is asked for only where a tool has loaded it already: replay and --help must not pay for the import.
    torch = sys.modules.get("torch")
    return (ConnectionError, TimeoutError, *((torch.OutOfMemoryError,) if torch else ()))
