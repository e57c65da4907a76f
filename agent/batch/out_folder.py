"""The output folder of a batch: what is written, in which order, and what a run that was cut off left behind.

Every row of the input leaves exactly one line: a post a line of `predictions.jsonl` (a failed one, too), a row that is
no post a line of `failures.jsonl`. A failure is written before the prediction it belongs to, so a crash between the two
leaves a failure too many, never one too few; the next run cuts it away. Nothing else is needed to go on.

A killed process loses what it had not handed to the system: at most the line it was writing. A machine that loses power
loses what the disk had not got: failures are on it before the prediction that follows them, predictions every second.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from namepin.agent.batch.source import Row
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction

PREDICTIONS, FAILURES, MANIFEST, LOCK = "predictions.jsonl", "failures.jsonl", "manifest.json", ".lock"
DEGRADED = b'"status":"degraded","warnings"'
"""In the line of a degraded post, and of no other: quotes within a post's text are escaped."""
SYNC_S = 1.0
"""Predictions reach the disk itself, not only the system's memory, at least so often."""


class OutFolder:
    """A batch's output folder, held by one process at a time.

    Args:
        folder: made when it is not there.
        identity: what must be the same for a run to go on: the input's and the settings' hashes.

    Raises:
        NamepinError: E500 not writable, E501 another process works on it, E502 it belongs to another input or profile.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder, self.identity = folder, identity
        self._open = ExitStack()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = self._open.enter_context((folder / LOCK).open("a+"))
            _hold(lock, folder)
            self.before = self._manifest()
            self._check()
            self.done, self.failed, self.degraded = self._taken_up()
            # Unbuffered: a line is on its way to the disk when `write` returns, and closing has nothing left to do.
            self._predictions = self._open.enter_context((folder / PREDICTIONS).open("ab", buffering=0))
            self._failures = self._open.enter_context((folder / FAILURES).open("ab", buffering=0))
            _sync_folder(folder)
            self._synced = time.monotonic()
        except OSError as error:
            self._open.close()
            raise _unwritable(folder, error) from error
        except NamepinError:
            self._open.close()
            raise

    def __enter__(self) -> "OutFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # of a disk that is full or gone, which `put` has said
            os.fsync(self._predictions.fileno())
        self._open.close()

    def put(self, row: Row, extraction: Extraction | None, error: Exception | None) -> None:
        """Write the outcome of the next row: the system has it on return, the disk within `SYNC_S` of work.

        Raises:
            NamepinError: E500 when the disk is full or gone: what was written stays, and the next run goes on.
        """
        try:
            if error is not None:
                self.failed += 1
                self._line(self._failures, json.dumps(_failure(row, error), ensure_ascii=False))
                os.fsync(self._failures.fileno())
            if extraction is not None:
                self._line(self._predictions, extraction.to_json())
                self.degraded += extraction.status == "degraded"
            self.done += 1
            if time.monotonic() - self._synced >= SYNC_S:
                os.fsync(self._predictions.fileno())
                self._synced = time.monotonic()
        except OSError as problem:
            raise _unwritable(self.folder, problem) from problem

    def say(self, **fields: Any) -> None:
        """Write the manifest."""
        part = self.folder / f"{MANIFEST}.part"
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(json.dumps({**self.identity, **fields}, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.fsync(self._predictions.fileno())  # a manifest never says more than the disk has
            os.replace(part, self.folder / MANIFEST)
            _sync_folder(self.folder)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    @staticmethod
    def _line(file: IO[bytes], line: str) -> None:
        left = memoryview(line.encode("utf-8", "surrogatepass") + b"\n")
        while left:
            left = left[file.write(left) :]

    def _manifest(self) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / MANIFEST).read_text("utf-8"))
        except FileNotFoundError:
            if (self.folder / PREDICTIONS).exists():
                what, mend = "the folder holds results of something else", "choose another folder with --out"
                raise NamepinError("E502", what, where=str(self.folder), mend=mend) from None
            return None
        except ValueError as error:
            raise NamepinError("E502", "the folder's manifest is damaged", where=str(self.folder)) from error
        return found if isinstance(found, dict) else None

    def _check(self) -> None:
        for key, value in self.identity.items():
            if self.before is not None and self.before.get(key) != value:
                what = f"the folder was begun with another {key.replace('_', ' ')}"
                mend = "choose another folder with --out, or go on with what it was begun with"
                raise NamepinError("E502", what, where=str(self.folder), mend=mend)

    def _taken_up(self) -> tuple[int, int, int]:
        """Cut away what a crash tore, and count the rows that are done, the failures and the degraded posts among them.

        Failures are in the order of the rows. Those of rows whose prediction is missing are the last ones: cut, too.
        """
        posts = degraded = 0
        for line in _whole_lines(self.folder / PREDICTIONS):
            posts += 1
            degraded += DEGRADED in line
        bad = failed = end = 0
        for line in _whole_lines(self.folder / FAILURES):
            failure = json.loads(line)
            if failure["row"] - bad - (not failure["post"]) > posts:  # more posts up to there than were predicted
                os.truncate(self.folder / FAILURES, end)
                break
            bad += not failure["post"]
            failed += 1
            end += len(line)
        return posts + bad, failed, degraded


def _failure(row: Row, error: Exception) -> dict[str, Any]:
    coded = error if isinstance(error, NamepinError) else None
    return {
        "id": row.post.id if row.post else None,
        "row": row.number,
        "where": row.where,
        "code": coded.code if coded else "W100",
        "reason": coded.what if coded else f"{type(error).__name__}: {error}",
        "post": row.post is not None,
    }


def _whole_lines(path: Path) -> Iterator[bytes]:
    """The finished lines of a file, each one object; what follows the first line that is none is cut off the file.

    A killed process leaves the beginning of a line. A machine that lost power may leave zeros where lines should be.
    """
    if not path.exists():
        return
    end = 0
    with path.open("r+b") as file:
        for line in file:
            if line.startswith(b"{") and line.endswith(b"}\n"):
                end += len(line)
                yield line
            else:
                file.truncate(end)
                return


def _sync_folder(folder: Path) -> None:
    """Have the names of the files on the disk, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _hold(lock: Any, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        mend = "wait for it, or choose another folder with --out"
        raise NamepinError("E501", "another process works on this folder", where=str(folder), mend=mend) from error


def _unwritable(folder: Path, error: OSError) -> NamepinError:
    mend = "make room or choose another folder with --out; the same command goes on where this one ended"
    return NamepinError("E500", f"cannot write the results: {error.strerror or error}", where=str(folder), mend=mend)
