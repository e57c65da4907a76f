"""The local engine: groups of posts run through the graph, results are written in the order of the input.

Groups are cut by the order of the input, so that a resumed run makes the tool calls of an undisturbed one and writes
the same bytes. A group that was written in part is processed again as a whole.
"""

import asyncio
import signal
import threading
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from namepin.agent.api import Namepin
from namepin.agent.batch.deduplicate import REACH, Claim, Deduplicator, ResultCache
from namepin.agent.batch.out_folder import OutFolder
from namepin.agent.batch.repair import UsableLines
from namepin.agent.batch.source import Row, Source
from namepin.agent.batch.writing import Progress, RowGroup, Writing, has_picture
from namepin.agent.config.build import TOGETHER, policy, posts_per_group
from namepin.agent.posts import PICTURE_MISSING, Ready
from namepin.graphs.batched_calls import MEMBER, Member, PostGroup
from namepin.graphs.context import Context
from namepin.graphs.masks_only import NAME as MASKS
from namepin.tools.base import digest
from namepin.tools.concurrency import batch_pace, share_arenas
from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import dump_json, parse_json
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
    together: int = TOGETHER,
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
        at_once: number of posts with pictures in progress at a time.
        together: largest number of posts that share tool calls; two such groups are in progress at a time.
        limit: number of input rows after which to stop.
        masks: whether the rows are predictions that only get masks (`namepin.graphs.masks_only`).
        repair: continue with a damaged folder, and keep the rows whose lines are whole.
        on_progress: called after each row.

    Raises:
        NamepinError: E50x for the folder, E104 for the input, E21x and E30x when a required tool cannot start.
    """
    share_arenas()
    pin.calls  # noqa: B018  # a tool that cannot start ends the run before anything is written
    known = None if masks or _BY_ID & pin.calls.fingerprints.keys() else Deduplicator(kept=ResultCache.of(pin))
    size = posts_per_group(pin.settings, together)
    work = _Work(pin, masks, known, at_once, size)
    with (
        batch_pace(),
        OutFolder(out, identity_of(pin, source, masks), repair=repair) as folder,
        Writing(
            folder,
            pin.settings.images.max_pixels,
            source,
            limit,
            on_progress,
            _fingerprint(pin, masks),
            partial(work.keep, after=folder.done - REACH - size),
        ) as writing,
    ):

        async def rows() -> bool:
            with _stopping() as stop:
                groups = writing.groups(size, at_once)
                async for outcome in _outcomes(work, groups, writing.usable, stop):
                    writing.put(outcome.row, outcome.extraction, outcome.error)
                return stop.is_set()

        try:
            stopped = asyncio.run(rows())
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


_Begun = list[tuple[asyncio.Task[Outcome], bool]]
"""The tasks of a group's rows, and whether each row is due."""


async def _outcomes(
    work: "_Work", groups: Iterator[RowGroup], usable: UsableLines, stop: asyncio.Event
) -> AsyncIterator[Outcome]:
    """Outcomes of the rows that are due, in order."""
    loop = asyncio.get_running_loop()
    window: deque[asyncio.Task[_Begun]] = deque()
    with ThreadPoolExecutor(1, "read") as reader:
        exhausted = False
        try:
            while True:
                while not exhausted and not stop.is_set() and len(window) < work.groups:
                    group = await loop.run_in_executor(reader, next, groups, None)
                    if group is None:
                        exhausted = True
                    else:
                        before = window[-1] if window else None
                        window.append(asyncio.create_task(work.begin(group, usable, before)))
                if not window:
                    return
                for task, is_due in await window[0]:
                    if is_due:
                        yield await task
                window.popleft()
        finally:
            for begun in window:
                begun.cancel()
                if begun.done() and not begun.cancelled() and begun.exception() is None:
                    for task, _ in begun.result():
                        task.cancel()


class _Work:
    """The processing of groups of rows.

    Args:
        pin: the profile.
        masks: whether the rows only get masks.
        known: the results that equal posts reuse; None if they do not.
        at_once: number of posts with pictures in progress at a time; of all posts where groups have one post.
        size: largest number of posts of a group.

    Attributes:
        groups: number of groups to hold. While one waits for the tagger, another's posts walk through the graph.
    """

    def __init__(self, pin: Namepin, masks: bool, known: Deduplicator | None, at_once: int, size: int) -> None:
        self.pin, self.masks, self.known = pin, masks, known
        self._finished: dict[int, bytes] = {}
        self._alone, self.groups = size == 1, max(2, 2 * at_once // size)
        self._turns, self._decoders = asyncio.Semaphore(at_once), asyncio.Semaphore(_DECODERS)

    async def begin(self, group: RowGroup, usable: UsableLines, before: "asyncio.Task[Any] | None") -> _Begun:
        """Prepare the rows of a group, and start a task for each of them.

        Args:
            group: the rows. A finished group only adds its reusable results.
            usable: the reusable lines of a repair.
            before: the group before it, which decides first about equal posts.
        """
        if not group.due:
            if before:
                await asyncio.wait({before})
            for row in group.rows:
                with suppress(NamepinError):  # a text that cannot be cleaned has no result to reuse
                    self._seed(row, usable)
            return _Begun()
        prepared = await asyncio.gather(*map(self._prepare, group.rows))
        if before:
            await asyncio.wait({before})
        claims = [
            self.known.claim(ready, row.number) if self.known and isinstance(ready, Ready) else None
            for row, ready in zip(group.rows, prepared, strict=True)
        ]
        alone = [
            not isinstance(ready, Ready) or (claim is not None and claim.earlier is not None)
            for ready, claim in zip(prepared, claims, strict=True)
        ]
        shared, members, tasks = PostGroup(alone.count(False)), count(), _Begun()
        for row, ready, claim, single in zip(group.rows, prepared, claims, alone, strict=True):
            member = None if single else Member(shared, next(members))
            task = asyncio.create_task(self._outcome(row, ready, claim, member))
            tasks.append((task, row.number in group.due))
        return tasks

    def keep(self, row: Row, prediction: Mapping[str, Any], *, after: int) -> None:
        """Keep the prediction of a finished row, if its number is above `after`, until its group's turn comes."""
        if self.known is not None and row.number > after:
            self._finished[row.number] = zlib.compress(dump_json(prediction).encode(), 1)

    def _seed(self, row: Row, usable: UsableLines) -> None:
        """Remember the result of a finished row, for later equal posts."""
        packed = self._finished.pop(row.number, None)
        if self.known is None or row.post is None or (packed is None and row.number not in usable):
            return
        line = usable.take(row.number)[0] if packed is None else zlib.decompress(packed)
        found = parse_json(line)
        if any(notice["code"] == PICTURE_MISSING for notice in found["warnings"]):
            return
        bare = self.pin.ready(row.post.model_copy(update={"image": None}))
        picture = found["image"]["sha256"] if found["image"] else None
        self.known.seed(bare, row.number, picture, line if found["status"] == "ok" else None)

    async def _prepare(self, row: Row) -> Ready | Exception:
        """The row's post with its picture, which takes a turn until its outcome; or the reason why there is none."""
        if row.post is None:
            return row.error or AssertionError(f"{row.where} is neither a post nor an error")
        if self._takes_turn(row):
            await self._turns.acquire()
        try:
            return await decode_row(self.pin, row, self._decoders)
        except Exception as error:  # one post never ends a batch
            return error

    def _takes_turn(self, row: Row) -> bool:
        return row.post is not None and (self._alone or has_picture(row))

    async def _outcome(self, row: Row, ready: Ready | Exception, claim: Claim | None, member: Member | None) -> Outcome:
        MEMBER.set(member)  # in this task's own context
        try:
            if isinstance(ready, Ready):
                return Outcome(row, await self._extraction(row, ready, claim))
            if row.post is None:
                return Outcome(row, None, ready)
            return Outcome(row, self.pin.failed_extraction(row.post, ready), ready)
        except Exception as error:  # one post never ends a batch
            assert row.post is not None
            return Outcome(row, self.pin.failed_extraction(row.post, error), error)
        finally:
            if member:
                member.leave()
            if self._takes_turn(row):
                self._turns.release()

    async def _extraction(self, row: Row, ready: Ready, claim: Claim | None) -> Extraction:
        if self.masks:
            from namepin.agent.batch.masks import with_masks

            return await with_masks(self.pin, row, ready)
        if self.known is None or claim is None:
            return await self.pin.aextract(ready)
        return await self.known.extraction(claim, ready, self.pin.aextract)


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
