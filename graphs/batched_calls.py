"""Micro-batching: posts that are in the graph at the same time meet at each tool, which answers them together.

One thread a tool takes what waits there, up to a bound, and asks the tool once. By itself it does not wait for more to
come: while it computes, the next batch gathers. A batch is the request that has waited longest and those nearest to it
in length, so that little is padded. A slow tool (a language model's server) holds up nobody who does not need it, and
its line is bounded: who comes to a full one waits for a place. When a batch fails, each of its requests is asked
alone, so that only the one that fails for itself fails.
"""

import asyncio
import atexit
import contextvars
import threading
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakSet

from namepin.graphs.calls import AnyTool, TransientFailure, transient_errors
from namepin.tools.errors import ToolUnavailable
from namepin.tools.media import Media
from namepin.tools.redaction import without_credentials
from namepin.tools.types import Frozen


@dataclass
class _Waiting:
    request: Frozen
    media: Media
    answer: "Future[Frozen]" = field(default_factory=Future)
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    since: float = field(default_factory=time.monotonic)
    place: "Future[None]" = field(default_factory=Future)
    """Done once it stands in the line."""

    @property
    def length(self) -> int:
        """How much there is to work on: characters of text, and items of lists."""
        values = (getattr(self.request, name) for name in type(self.request).model_fields)
        return sum(len(value) for value in values if isinstance(value, str | tuple))


class _Line:
    """What waits at one tool. Any thread may enter and take.

    Args:
        room: requests that stand in it; those beyond wait outside, in order.
    """

    def __init__(self, room: int) -> None:
        self._room, self._closed = room, False
        self._inside: deque[_Waiting] = deque()
        self._outside: deque[_Waiting] = deque()
        self._changed = threading.Condition()

    def enter(self, waiting: _Waiting) -> None:
        """Stand in line, or wait for a place."""
        with self._changed:
            self._outside.append(waiting)
            self._let_in()

    def take(self, most: int, wait_s: float) -> list[_Waiting]:
        """The next batch; empty when the line is closed and nobody is left.

        Args:
            most: requests of a batch.
            wait_s: how long the first may wait for the batch to fill, counted from when it entered.
        """
        with self._changed:
            while True:
                self._inside = deque(one for one in self._inside if not one.answer.cancelled())
                self._let_in()
                if not self._inside:
                    if self._closed:
                        return []
                    self._changed.wait()
                    continue
                patience = self._inside[0].since + wait_s - time.monotonic()
                if len(self._inside) >= most or self._closed or patience <= 0:
                    return self._next(most)
                self._changed.wait(patience)

    def close(self) -> None:
        """Let those who take leave when nobody is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self, most: int) -> list[_Waiting]:
        first, *others = self._inside
        if len(others) >= most:
            others.sort(key=lambda one: abs(one.length - first.length))  # stable: of equals, the older one
        chosen = {id(one) for one in (first, *others[: most - 1])}
        batch = [one for one in self._inside if id(one) in chosen]
        self._inside = deque(one for one in self._inside if id(one) not in chosen)
        self._let_in()
        if self._inside:
            self._changed.notify()  # another thread may sleep through what this one leaves
        return batch

    def _let_in(self) -> None:
        while self._outside and len(self._inside) < self._room:
            waiting = self._outside.popleft()
            if waiting.place.set_running_or_notify_cancel():
                waiting.since = time.monotonic()
                self._inside.append(waiting)
                waiting.place.set_result(None)
                self._changed.notify()

    def abandon(self) -> None:
        """Close, and leave what waits here without an answer."""
        with self._changed:
            self._inside.clear()
            self._outside.clear()
        self.close()


_OPEN: "WeakSet[BatchedCalls]" = WeakSet()
_EXIT_S = 5.0
"""How long the end of the process waits for requests that tools are at work on."""


@atexit.register
def _end_threads() -> None:
    """Python ends threads that are in a library's C++ code by an abort of the whole process: none may be there."""
    deadline = time.monotonic() + _EXIT_S
    for calls in list(_OPEN):
        calls.abandon(deadline)


class BatchedCalls:
    """`Calls` that ask the tools for several posts at once.

    Args:
        tools: role -> tool.
        most: requests of one batch.
        wait_s: how long a request may wait for its batch to fill. 0 asks at once for what there is: nobody waits for a
            tool that has nothing to do.
        room: requests that wait at one tool; who comes to a full line waits for a place before the time runs.
        threads: role -> batches of a tool at a time; one where it is not named. A tool that waits for a server may have
            several.
        timeout_s: a request that is not answered by then counts as the tool being down.
    """

    def __init__(
        self,
        tools: Mapping[str, AnyTool],
        *,
        most: int = 16,
        wait_s: float = 0.0,
        room: int = 1024,
        threads: Mapping[str, int] | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        self.tools, self.most, self.wait_s, self.timeout_s = dict(tools), most, wait_s, timeout_s
        self._fingerprints = {name: tool.fingerprint for name, tool in self.tools.items()}
        self._lines = {name: _Line(room) for name in self.tools}
        self._threads: list[threading.Thread] = []
        _OPEN.add(self)
        for name, tool in self.tools.items():
            for number in range((threads or {}).get(name, 1)):
                work = threading.Thread(
                    target=self._work, args=(tool, self._lines[name]), name=f"{name}-{number}", daemon=True
                )
                work.start()
                self._threads.append(work)

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Role -> fingerprint."""
        return self._fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`. A call that is cancelled while it waits is not asked any more."""
        waiting = _Waiting(request, media)
        self._lines[tool].enter(waiting)
        answer = asyncio.wrap_future(waiting.answer)
        try:
            if not waiting.place.done():
                await asyncio.wrap_future(waiting.place)
            done, _ = await asyncio.wait({answer}, timeout=self.timeout_s)
        except asyncio.CancelledError:
            waiting.answer.cancel()
            raise
        if not done:
            answer.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody will ask for it
            waiting.answer.cancel()
            raise ToolUnavailable(tool, f"no answer within {self.timeout_s:g} s")
        try:
            return answer.result()
        except transient_errors() as error:
            raise TransientFailure(tool, without_credentials(f"{type(error).__name__}: {error}")) from error

    def close(self) -> None:
        """Let the threads end when what waits is done."""
        for line in self._lines.values():
            line.close()

    def abandon(self, deadline: float) -> None:
        """Let the threads end with the requests that they are at work on, and wait for that; what waits is dropped.

        Args:
            deadline: when to stop waiting, as `time.monotonic` has it.
        """
        for line in self._lines.values():
            line.abandon()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self, tool: AnyTool, line: _Line) -> None:
        while taken := line.take(self.most, self.wait_s):
            batch = [one for one in taken if one.answer.set_running_or_notify_cancel()]
            if batch:
                _answer(tool, batch)


def _answer(tool: AnyTool, batch: list[_Waiting]) -> None:
    try:
        results = _ask(tool, batch)
    except BaseException as error:
        if len(batch) == 1:
            batch[0].answer.set_exception(error)
            return
        for one in batch:
            _answer(tool, [one])
        return
    for one, result in zip(batch, results, strict=True):
        one.answer.set_result(result)


def _ask(tool: AnyTool, batch: list[_Waiting]) -> list[Any]:
    """One call for the whole batch; what it leaves in the media is put where each post looks for it."""
    images = {sha256: image for one in batch for sha256, image in one.media.images.items()}
    blobs = {key: blob for one in batch for key, blob in one.media.blobs.items()}
    known = set(blobs)
    media = Media(images=images, blobs=blobs)
    results = list(batch[0].context.run(tool.run, [one.request for one in batch], media))
    if len(results) != len(batch):
        raise ToolUnavailable(tool.name, f"{len(results)} answers to {len(batch)} requests")
    new = {key: blob for key, blob in media.blobs.items() if key not in known}
    for one, result in zip(batch, results, strict=True):
        if new:
            said = result.model_dump_json()
            one.media.blobs.update({key: blob for key, blob in new.items() if len(batch) == 1 or key in said})
    return results
