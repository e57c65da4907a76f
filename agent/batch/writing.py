"""Progress of a batch, and the writing of its outcomes to the folder, for both engines."""

import time
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from types import TracebackType
from typing import Any

from namepin.agent.batch.out_folder import OutFolder
from namepin.agent.batch.pictures import check_finished
from namepin.agent.batch.repair import UsableLines
from namepin.agent.batch.source import Row, Source
from namepin.graphs.run import failed_extraction
from namepin.tools.concurrency import cut_groups
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction


@dataclass(frozen=True)
class RowGroup:
    """Consecutive rows whose posts share tool calls.

    Attributes:
        rows: the rows.
        due: numbers of the rows to be written. A group with such a row is processed as a whole; one without is
            finished.
    """

    rows: tuple[Row, ...]
    due: frozenset[int]


@dataclass
class Progress:
    """Progress of a run."""

    done: int
    failed: int
    resumed: int
    seconds: float
    total: int | None = None
    """Approximate number of rows, for the remaining time."""
    degraded: int = 0

    @property
    def rate(self) -> float:
        """Rows per second of this run."""
        return (self.done - self.resumed) / self.seconds if self.seconds else 0.0

    @property
    def left_s(self) -> float | None:
        """Remaining seconds at this rate."""
        if self.total is None or not self.rate:
            return None
        return max(self.total - self.done, 0) / self.rate


class Writing:
    """Writes a run's outcomes and, in between, the reusable lines that a repair had set aside.

    Args:
        folder: the output folder.
        max_pixels: largest number of pixels per picture.
        source: the input.
        limit: number of input rows after which to stop.
        on_progress: called after each row.
        fingerprint: fingerprint of this run's tools; None if unknown before the first result.
        on_finished: called with each finished post and its prediction, in the order of the rows.

    Attributes:
        progress: progress of the run.
        usable: reusable lines of rows that need no work.

    Raises:
        NamepinError: E502 when the folder's content does not fit the input, or cannot be repaired with this engine.
    """

    def __init__(
        self,
        folder: OutFolder,
        max_pixels: int,
        source: Source,
        limit: int | None,
        on_progress: Callable[[Progress], None],
        fingerprint: str | None,
        on_finished: Callable[[Row, dict[str, Any]], None] = lambda row, found: None,
    ) -> None:
        if folder.unnamed and fingerprint is None:
            what = "the folder's manifest is damaged, so this engine does not know the tools behind the results"
            mend = "run the same command with --engine local --repair"
            raise NamepinError("E502", what, where=str(folder.folder), mend=mend)
        check_finished(source, folder.folder, folder.done, max_pixels, on_finished)
        self.usable = UsableLines(folder.folder, source, folder.done, max_pixels, fingerprint or folder.fingerprint)
        self._folder, self._source, self._limit, self._on_progress = folder, source, limit, on_progress
        self._began = time.monotonic()
        folder.say(status="running", resumed=folder.done, started=now())
        total = source.count if limit is None else min(source.count, limit)
        self.progress = Progress(folder.done, folder.failed, folder.done, 0.0, total, folder.degraded)

    def __enter__(self) -> "Writing":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self.usable.close()

    def groups(self, size: int = 1, pictures: int = 1) -> Iterator[RowGroup]:
        """The input in groups, those that need work and those that are finished; see `row_groups`."""
        return row_groups(self._source, size, pictures, self._folder.done, self._limit, self.usable)

    def put(self, row: Row, extraction: Extraction | None, error: Exception | None) -> None:
        """Write the outcome of the next row that needed work, and report the progress.

        Raises:
            NamepinError: as `OutFolder.put`.
        """
        self._put_usable()
        if row.number != self._folder.done + 1:
            raise AssertionError(f"row {row.number} after row {self._folder.done}")
        try:
            self._folder.put(row, extraction, error)
        except ValueError as unwritable:  # one post never ends a batch
            assert row.post is not None and extraction is not None
            bare = row.post.model_copy(update={"extra": {}})
            failed = failed_extraction(bare, None, unwritable, extraction.fingerprint)
            self._folder.put(row, failed, unwritable)
        self._tell()

    def end(self, stopped: bool) -> None:
        """Write the manifest of a finished run.

        Raises:
            NamepinError: E500 as `OutFolder.say`; E502 when the input changed while it was read.
        """
        self._put_usable()
        changed = self._source.has_changed()
        self._folder.say(
            status="stopped" if stopped or changed else "done",
            rows=self._folder.done,
            failed=self._folder.failed,
            resumed=self.progress.resumed,
            finished=now(),
            seconds=round(time.monotonic() - self._began, 3),
        )
        if changed:
            mend = "restore the input and add --repair, or choose another folder with --out"
            raise NamepinError("E502", "the input changed while it was read", where=self._source.name, mend=mend)

    def _put_usable(self) -> None:
        while (number := self._folder.done + 1) in self.usable and (self._limit is None or number <= self._limit):
            self._folder.put_line(*self.usable.take(number))
            self.progress.resumed += 1
            self._tell()

    def _tell(self) -> None:
        self.progress.done, self.progress.failed = self._folder.done, self._folder.failed
        self.progress.degraded = self._folder.degraded
        self.progress.seconds = time.monotonic() - self._began
        self._on_progress(self.progress)


def row_groups(
    source: Source, size: int, pictures: int, done: int, limit: int | None, usable: Container[int] = ()
) -> Iterator[RowGroup]:
    """The input in groups of consecutive rows, up to row `limit`.

    Groups are cut from the first row on, whatever is finished. So a resumed run has the groups of an undisturbed one.

    Args:
        source: the input.
        size: largest number of rows of a group.
        pictures: largest number of pictures of a group.
        done: number of finished rows.
        limit: number of the last row; None for all rows.
        usable: later rows that need no work, since their lines can be reused.
    """
    rows = source.rows() if limit is None else takewhile(lambda row: row.number <= limit, source.rows())
    for group in cut_groups(rows, size, heavy=has_picture, most_heavy=pictures):
        due = frozenset(row.number for row in group if row.number > done and row.number not in usable)
        yield RowGroup(tuple(group), due)


def has_picture(row: Row) -> bool:
    """Whether the row has or names a picture."""
    return row.picture is not None or (row.post is not None and row.post.image is not None)


def now() -> str:
    """The current time for a manifest."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
