"""The local engine: a window of posts runs through the graph, results are written in the order of the input."""

import asyncio
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from namepin.agent.api import Namepin
from namepin.agent.batch.deduplicate import Deduplicator, ResultCache
from namepin.agent.batch.out_folder import OutFolder
from namepin.agent.batch.source import Row, Source
from namepin.agent.batch.writing import Progress, Writing
from namepin.agent.config.build import policy
from namepin.agent.posts import PICTURE_MISSING, Ready
from namepin.graphs.context import Context
from namepin.graphs.masks_only import NAME as MASKS
from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from namepin.tools.llm.config import ChatConfig
from namepin.tools.types import Extraction, Notice, Post

_DECODERS = 4
"""Number of pictures decoded at a time."""
_BY_ID = frozenset({"examples"})
"""Roles whose tools use a post's id; with such a tool, equal posts with different ids may have different results."""
_WHERE = frozenset({"base_url", "servers", "timeout_s", "retries", "backoff_s", "backoff_max_s", "concurrency"})
"""Settings of a chat model for its address and timeouts, which do not affect answers."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a row."""

    row: Row
    extraction: Extraction | None
    error: Exception | None = None


def run_batch(
    pin: Namepin,
    source: Source,
    out: Path,
    *,
    at_once: int = 16,
    limit: int | None = None,
    masks: bool = False,
    repair: bool = False,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[Progress, bool]:
    """Process an input into a folder, or resume; returns the last progress, and whether the run was stopped.

    Args:
        pin: the profile.
        source: the input.
        out: the output folder.
        at_once: number of posts in the graph at a time.
        limit: number of input rows after which to stop.
        masks: whether the rows are predictions that only get masks (`namepin.graphs.masks_only`).
        repair: continue with a damaged folder, and keep the rows whose lines are whole.
        on_progress: called after each row.

    Raises:
        NamepinError: E50x for the folder, E104 for the input, E21x and E30x when a required tool cannot start.
    """
    pin.calls  # noqa: B018  # a tool that cannot start ends the run before anything is written
    with (
        OutFolder(out, identity_of(pin, source, masks), repair=repair) as folder,
        Writing(
            folder, pin.settings.images.max_pixels, source, limit, on_progress, _fingerprint(pin, masks)
        ) as writing,
    ):
        known = None if masks or _BY_ID & pin.calls.fingerprints.keys() else Deduplicator(kept=ResultCache.of(pin))

        async def work() -> bool:
            with _stopping() as stop:
                rows = writing.rows_left()
                async for outcome in _outcomes(_Work(pin, masks, known), rows, at_once, stop):
                    writing.put(outcome.row, outcome.extraction, outcome.error)
                return stop.is_set()

        try:
            stopped = asyncio.run(work())
        finally:
            if known:
                known.close()
        writing.end(stopped)
        return writing.progress, stopped


def identity_of(pin: Namepin, source: Source, masks: bool = False) -> dict[str, Any]:
    """The settings that must stay the same for a run to resume, with any engine and any model servers."""
    settings = pin.settings.dump()
    for role, tool in pin.settings.tools.items():
        if isinstance(tool.config, ChatConfig):
            settings[role] = {key: value for key, value in settings[role].items() if key not in _WHERE}
    return {
        "input": source.name.rpartition("/")[2],
        "input_sha256": source.sha256(),
        "settings_sha256": digest({"only": "masks" if masks else None, **settings}),
        "graph": "masks" if masks else pin.graph.name,
    }


def _fingerprint(pin: Namepin, masks: bool) -> str:
    """The fingerprint of every result of this run."""
    return Context(pin.calls, policy=policy(pin.settings)).fingerprint(MASKS if masks else pin.graph.name)


async def _outcomes(work: "_Work", rows: Iterator[Row], at_once: int, stop: asyncio.Event) -> AsyncIterator[Outcome]:
    """Outcomes in the order of the rows. At most `at_once` posts are in progress, and twice as many in memory."""
    loop = asyncio.get_running_loop()
    turns = asyncio.Semaphore(at_once)
    decoders = asyncio.Semaphore(_DECODERS)
    window: deque[asyncio.Task[Outcome]] = deque()
    with ThreadPoolExecutor(1, "read") as reader:
        exhausted = False
        try:
            while True:
                while not exhausted and not stop.is_set() and len(window) < 2 * at_once:
                    row = await loop.run_in_executor(reader, next, rows, None)
                    if row is None:
                        exhausted = True
                    else:
                        window.append(asyncio.create_task(work.outcome(row, turns, decoders)))
                if not window:
                    return
                yield await window.popleft()
        finally:
            for task in window:
                task.cancel()


@dataclass(frozen=True)
class _Work:
    """The processing of a row."""

    pin: Namepin
    masks: bool
    known: Deduplicator | None

    async def outcome(self, row: Row, turns: asyncio.Semaphore, decoders: asyncio.Semaphore) -> Outcome:
        if row.post is None:
            return Outcome(row, None, row.error)
        async with turns:
            try:
                return Outcome(row, await self._extraction(row, await decode_row(self.pin, row, decoders)))
            except Exception as error:  # one post never ends a batch
                return Outcome(row, self.pin.failed_extraction(row.post, error), error)

    async def _extraction(self, row: Row, ready: Ready) -> Extraction:
        if self.masks:
            from namepin.agent.batch.masks import with_masks

            return await with_masks(self.pin, row, ready)
        if self.known is None:
            return await self.pin.aextract(ready)
        return await self.known.extraction(ready, self.pin.aextract)


async def decode_row(pin: Namepin, row: Row, decoders: asyncio.Semaphore) -> Ready:
    """The row's post with its decoded picture; without the picture (W101) after a timeout (`tools.images.load`)."""
    assert row.post is not None
    if row.post.image is None and row.picture is None:
        return pin.ready(row.post)
    async with decoders:
        return await _in_thread(partial(_ready, pin, row), row.post)


def _ready(pin: Namepin, row: Row, post: Post) -> Ready:
    """The post with its picture, or without it (W101) if the picture cannot be read."""
    if row.picture is None:
        return pin.ready(post)
    bare = pin.ready(post)
    try:
        return pin.ready(post, row.picture)
    except NamepinError as error:
        missing = Notice(code=PICTURE_MISSING, tool="images", message=f"went on without its picture: {error}")
        return Ready(bare.post, None, (*bare.notices, missing))


async def _in_thread(work: Callable[[Post], Ready], post: Post) -> Ready:
    """Run `work` in a separate thread that is never joined: a stuck thread delays neither other posts nor the end."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Ready] = loop.create_future()

    def settle(result: Ready | None, error: BaseException | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        elif result is not None:
            done.set_result(result)

    def run() -> None:
        try:
            outcome: tuple[Ready | None, BaseException | None] = (work(post), None)
        except BaseException as error:
            outcome = (None, error)
        with suppress(RuntimeError):  # the run is over
            loop.call_soon_threadsafe(settle, *outcome)

    threading.Thread(target=run, name="decode", daemon=True).start()
    return await done


@contextmanager
def _stopping() -> Iterator[asyncio.Event]:
    """An event that the first Ctrl-C or SIGTERM (a scheduler's) sets; the second one stops at once."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def leave() -> None:
        for number in signals:
            loop.remove_signal_handler(number)

    def first() -> None:
        stop.set()
        leave()

    try:
        for number in signals:
            loop.add_signal_handler(number, first)
    except (NotImplementedError, RuntimeError, ValueError):  # not the main thread, or not a POSIX system
        yield stop
        return
    try:
        yield stop
    finally:
        leave()
