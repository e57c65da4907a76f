"""Calls for many posts: tools compute in threads of their own, and a group of posts shares one call per tool.

Each tool has threads that take jobs from its queue. A job is one request or, for a tool that gains from it, the
requests of a whole group of posts (`PostGroup`). Who belongs to a group is decided before its posts begin, never by
which posts happen to wait at the same time. So a repeated run makes the same calls and gets the same bytes. A queue is
bounded; callers block while it is full. When a group's call fails, each of its requests is tried alone, so that one bad
request does not fail the others.
"""

import asyncio
import atexit
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any
from weakref import WeakSet

from namepin.graphs.calls import AnyTool, TransientFailure, transient_errors
from namepin.graphs.roles import ROLES
from namepin.tools.errors import ToolUnavailable
from namepin.tools.llm.usage import Usage, count_usage, current_usage
from namepin.tools.media import Media
from namepin.tools.redaction import without_credentials
from namepin.tools.types import Frozen


@dataclass(frozen=True)
class _Waiting:
    """A request whose answer is awaited in `loop`. Its answer is done early when nobody waits any longer."""

    request: Frozen
    media: Media
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[Frozen]"
    context: contextvars.Context = field(default_factory=contextvars.copy_context)


_Job = list[_Waiting]
"""Requests of one call, all of one event loop."""
_ORDER = {role: at for at, role in enumerate(ROLES)}
_LEFT = len(_ORDER)


class PostGroup:
    """Posts that share tool calls. A tool that answers groups gets their requests in one call, in the posts' order.

    Graphs call their roles in one order (`namepin.graphs.roles.ROLES`). So a role's call is made as soon as each post
    has called that role, called a later one, or left. A further request of a post to the same role, such as a retry, is
    a call of its own. For one event loop.

    Args:
        size: number of posts.
    """

    def __init__(self, size: int) -> None:
        self._at = [-1] * size
        self._gathered: dict[str, dict[int, _Waiting]] = {}
        self._enter: dict[str, Callable[[_Job], None]] = {}

    def __len__(self) -> int:
        return len(self._at)

    def arrive(self, post: int, role: str, waiting: _Waiting, enter: Callable[[_Job], None]) -> bool:
        """Wait for the other posts' requests to this role; False if the request belongs to no shared call."""
        joins = self._move(post, role)
        if joins:
            self._gathered.setdefault(role, {})[post] = waiting
            self._enter[role] = enter
        self._call()
        return joins

    def pass_by(self, post: int, role: str) -> None:
        """Note a request to a role whose calls are not shared."""
        self._move(post, role)
        self._call()

    def leave(self, post: int) -> None:
        """Note that a post makes no more requests."""
        self._at[post] = _LEFT
        self._call()

    def _move(self, post: int, role: str) -> bool:
        """Note how far a post is. Returns whether it had not yet come to this role."""
        before, here = self._at[post], _ORDER.get(role, -1)
        self._at[post] = max(before, here)
        return here > before

    def _call(self) -> None:
        slowest = min(self._at)
        for role in [role for role in self._gathered if _ORDER[role] <= slowest]:
            requests = self._gathered.pop(role)
            self._enter[role]([requests[post] for post in sorted(requests)])


@dataclass(frozen=True)
class Member:
    """A post's place in its group."""

    group: PostGroup
    post: int

    def leave(self) -> None:
        """Note that the post makes no more requests."""
        self.group.leave(self.post)


MEMBER: ContextVar[Member | None] = ContextVar("member", default=None)
"""The current post's place in its group; None for a post whose calls are its own."""


class _Line:
    """The bounded queue of one tool. Any thread may enter and take.

    Args:
        room: largest number of jobs in the queue; further jobs wait outside, in order.
        let_in: called with each job that gets a place in the queue.
    """

    def __init__(self, room: int, let_in: Callable[[_Job], None]) -> None:
        self._room, self._told, self._closed = room, let_in, False
        self._inside: deque[_Job] = deque()
        self._outside: deque[_Job] = deque()
        self._changed = threading.Condition()

    def enter(self, job: _Job) -> None:
        """Put a job into the queue, or behind the others that wait for a place in it."""
        with self._changed:
            self._outside.append(job)
            self._let_in()

    def take(self) -> _Job | None:
        """The oldest job, without requests that nobody waits for; None when the queue is closed and empty."""
        with self._changed:
            while True:
                while self._inside:
                    job = _awaited(self._inside.popleft())
                    self._let_in()
                    if job:
                        return job
                if self._closed:
                    return None
                self._changed.wait()

    def close(self) -> None:
        """Let the threads that take jobs end once the queue is empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Close the queue and drop its requests unanswered."""
        with self._changed:
            self._inside.clear()
            self._outside.clear()
        self.close()

    def _let_in(self) -> None:
        while self._outside and len(self._inside) < self._room:
            job = _awaited(self._outside.popleft())
            if job:
                self._inside.append(job)
                self._told(job)
                self._changed.notify()


def _awaited(job: _Job) -> _Job:
    return [one for one in job if not one.answer.done()]


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
    """`Calls` of many posts, in threads of each tool. Posts of one group (`MEMBER`) share calls.

    Args:
        tools: role -> tool.
        grouped: roles whose tools get the requests of a whole group in one call; each post calls them once.
        room: capacity of each tool's queue, in calls. Callers block while it is full; `timeout_s` does not count that
            time.
        threads: role -> number of calls that run at the same time; 1 by default. A tool that waits for a server may
            have several.
        timeout_s: a request without an answer after so many seconds counts as a failure of the tool.
    """

    def __init__(
        self,
        tools: Mapping[str, AnyTool],
        *,
        grouped: frozenset[str] = frozenset(),
        room: int = 1024,
        threads: Mapping[str, int] | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        self.tools, self.grouped, self.timeout_s = dict(tools), grouped, timeout_s
        self._fingerprints = {name: tool.fingerprint for name, tool in self.tools.items()}
        self._lines = {name: _Line(room, partial(self._watch, name)) for name in self.tools}
        self._threads: list[threading.Thread] = []
        _OPEN.add(self)
        for name, tool in self.tools.items():
            for number in range((threads or {}).get(name, 1)):
                work = threading.Thread(
                    target=_work, args=(tool, self._lines[name]), name=f"{name}-{number}", daemon=True
                )
                work.start()
                self._threads.append(work)

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Role -> fingerprint."""
        return self._fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`. A call that is cancelled while it is queued never reaches the tool."""
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, media, loop, loop.create_future())
        self._enter(tool, waiting)
        try:
            return await waiting.answer
        except transient_errors() as error:
            raise TransientFailure(tool, without_credentials(f"{type(error).__name__}: {error}")) from error

    def _watch(self, tool: str, job: _Job) -> None:
        """Let a job's requests fail when they have had a place in the queue for `timeout_s`."""

        def late() -> None:
            for one in _awaited(job):
                one.answer.set_exception(ToolUnavailable(tool, f"no answer within {self.timeout_s:g} s"))

        def begin() -> None:
            timer, left = loop.call_later(self.timeout_s, late), count(len(job) - 1, -1)

            def done(_: object) -> None:
                if not next(left):
                    timer.cancel()

            for one in job:
                one.answer.add_done_callback(done)

        loop = job[0].loop
        _soon(loop, begin)

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

    def _enter(self, tool: str, waiting: _Waiting) -> None:
        """Queue the request with those of its group, or alone."""
        line, member = self._lines[tool], MEMBER.get()
        if member is not None:
            if tool not in self.grouped:
                member.group.pass_by(member.post, tool)
            elif member.group.arrive(member.post, tool, waiting, line.enter):
                return
        line.enter([waiting])


def _work(tool: AnyTool, line: _Line) -> None:
    while job := line.take():
        _answer(tool, job)


def _answer(tool: AnyTool, batch: _Job) -> None:
    answers: Sequence[Any]
    try:
        answers = _ask(tool, batch)
    except BaseException as error:
        if len(batch) > 1:
            for one in _awaited(batch):
                _answer(tool, [one])
            return
        answers = [error]
    _soon(batch[0].loop, partial(_give, batch, answers))


def _give(batch: _Job, answers: Sequence[Any]) -> None:
    for one, answer in zip(batch, answers, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, BaseException):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    """Call from the thread of a loop, unless that has ended. One such call wakes the loop for a whole group."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call)


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
