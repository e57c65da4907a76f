"""Micro-batching: each tool answers the requests of several posts in one call.

One thread per tool takes the queued requests, up to a bound, and calls the tool once. By default it does not wait for
more requests: the next batch gathers while the tool computes. A batch is the oldest request and the requests nearest
to it in length, so that there is little padding. A slow tool (a language model's server) delays only the posts that
need it. Its queue is bounded; callers block while it is full. When a batch fails, each of its requests is tried alone,
so that one bad request does not fail the others.
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
from namepin.tools.llm.usage import Usage, count_usage, current_usage
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
    """Done once the request is in the queue."""

    @property
    def length(self) -> int:
        """The size of the request: its characters of text plus its list items."""
        values = (getattr(self.request, name) for name in type(self.request).model_fields)
        return sum(len(value) for value in values if isinstance(value, str | tuple))


class _Line:
    """The bounded queue of one tool. Any thread may enter and take.

    Args:
        room: capacity of the queue; further requests wait outside, in order.
    """

    def __init__(self, room: int) -> None:
        self._room, self._closed = room, False
        self._inside: deque[_Waiting] = deque()
        self._outside: deque[_Waiting] = deque()
        self._changed = threading.Condition()

    def enter(self, waiting: _Waiting) -> None:
        """Put a request into the queue, or behind the others that wait for a place in it."""
        with self._changed:
            self._outside.append(waiting)
            self._let_in()

    def take(self, most: int, wait_s: float) -> list[_Waiting]:
        """The next batch; empty when the queue is closed and has no requests left.

        Args:
            most: largest number of requests in a batch.
            wait_s: how long the first request may wait for the batch to fill, in seconds since it entered.
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
        """Let the threads that take batches end once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self, most: int) -> list[_Waiting]:
        first, *others = self._inside
        if len(others) >= most:
            others.sort(key=lambda one: abs(one.length - first.length))  # a stable sort: older ones first
        chosen = {id(one) for one in (first, *others[: most - 1])}
        batch = [one for one in self._inside if id(one) in chosen]
        self._inside = deque(one for one in self._inside if id(one) not in chosen)
        self._let_in()
        if self._inside:
            self._changed.notify()  # wake another thread for the requests that remain
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
        """Close the queue and drop its requests unanswered."""
        with self._changed:
            self._inside.clear()
            self._outside.clear()
        self.close()


_OPEN: "WeakSet[BatchedCalls]" = WeakSet()
_EXIT_S = 5.0
"""How long the end of the process waits for running tool calls, in seconds."""


@atexit.register
def _end_threads() -> None:
    """End all threads: Python aborts the whole process if a thread is inside a library's C++ code at exit."""
    deadline = time.monotonic() + _EXIT_S
    for calls in list(_OPEN):
        calls.abandon(deadline)


class BatchedCalls:
    """`Calls` that batch the requests of several posts.

    Args:
        tools: role -> tool.
        most: largest number of requests in one batch.
        wait_s: how long a request may wait for its batch to fill, in seconds. With 0, an idle tool is called at once.
        room: capacity of each tool's queue. Callers block while it is full; `timeout_s` does not count that time.
        threads: role -> number of batches that run at the same time; 1 by default. A tool that waits for a server may
            have several.
        timeout_s: a request without an answer after so many seconds counts as a failure of the tool.
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
        """See `Calls.call`. A call that is cancelled while it is queued never reaches the tool."""
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
            answer.add_done_callback(lambda late: late.cancelled() or late.exception())  # nobody awaits it
            waiting.answer.cancel()
            raise ToolUnavailable(tool, f"no answer within {self.timeout_s:g} s")
        try:
            return answer.result()
        except transient_errors() as error:
            raise TransientFailure(tool, without_credentials(f"{type(error).__name__}: {error}")) from error

    def close(self) -> None:
        """Let the threads end once all queued requests are done."""
        for line in self._lines.values():
            line.close()

    def abandon(self, deadline: float) -> None:
        """Drop the queued requests, and wait until the threads have finished the requests that are running.

        Args:
            deadline: when to stop waiting, on the clock of `time.monotonic`.
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
    """One call for the whole batch. New blobs are copied to the media of the posts whose results name them."""
    images = {sha256: image for one in batch for sha256, image in one.media.images.items()}
    blobs = {key: blob for one in batch for key, blob in one.media.blobs.items()}
    known = set(blobs)
    media = Media(images=images, blobs=blobs)
    results, used = batch[0].context.run(_count, tool, [one.request for one in batch], media)
    if len(results) != len(batch):
        raise ToolUnavailable(tool.name, f"{len(results)} answers to {len(batch)} requests")
    for part, one in enumerate(batch):
        if counter := one.context.run(current_usage):
            counter.add(used, part, len(batch))
    new = {key: blob for key, blob in media.blobs.items() if key not in known}
    for one, result in zip(batch, results, strict=True):
        if new:
            dumped = result.model_dump_json()
            one.media.blobs.update({key: blob for key, blob in new.items() if len(batch) == 1 or key in dumped})
    return results


def _count(tool: AnyTool, requests: list[Frozen], media: Media) -> tuple[list[Any], Usage]:
    with count_usage() as used:
        return list(tool.run(requests, media)), used
