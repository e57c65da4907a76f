"""The output folder of a batch: its files, the order of writes, and recovery after an interrupted run.

Every row of the input gives exactly one line: a post, even a failed one, in `predictions.jsonl`; a row that is not a
post in `failures.jsonl`. A failure is written before its prediction. A crash between the two leaves one failure too
many, never one too few, and the next run removes it. A run needs nothing else to resume.

A killed process loses at most the line that it was writing. A power cut loses data that had not reached the disk:
failures reach it before the prediction that follows them, predictions every second.
"""

import os
import stat
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from namepin.agent.batch.finished import FAILURES, PREDICTIONS, REPAIR, read_finished
from namepin.agent.batch.repair import SET_ASIDE, set_aside
from namepin.agent.batch.source import Row
from namepin.tools.errors import NamepinError, coded_error
from namepin.tools.files import atomic_write, remove_leftovers, sync
from namepin.tools.jsonl import dump_json, parse_json
from namepin.tools.types import Extraction

MANIFEST, LOCK, TABLE = "manifest.json", ".lock", "predictions.parquet"
DEGRADED = b'"status":"degraded","warnings"'
"""A text that only the lines of degraded posts contain, since quotes within a post's text are escaped."""
_FILES = (PREDICTIONS, FAILURES, *SET_ASIDE.values(), MANIFEST, LOCK, TABLE)
SYNC_S = 1.0
"""Longest time in seconds until predictions reach the disk itself, not only the system's memory."""


class OutFolder:
    """A batch's output folder, locked by one process at a time. Nothing in it changes before the first `say` or `put`.

    Args:
        folder: created if missing.
        identity: hashes of the input and the settings, which must stay the same for a run to resume.
        repair: set the results aside and begin anew, see `namepin.agent.batch.repair`.

    Attributes:
        done: number of finished rows of the input.
        failed: number of failed rows.
        degraded: number of degraded posts.
        fingerprint: fingerprint of the tools behind the results; None before the first result.
        unnamed: whether the manifest was damaged or missing, so that the tools behind the results are unknown.

    Raises:
        NamepinError: E500 not writable, E501 another process works on it, E502 it belongs to another input or profile,
            or what it holds is damaged.
    """

    def __init__(self, folder: Path, identity: dict[str, Any], *, repair: bool = False) -> None:
        self.folder, self.identity = folder, identity
        self._open = ExitStack()
        self._files: dict[str, IO[bytes]] = {}
        self._synced = time.monotonic()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _refuse_links(folder)
            lock = self._open.enter_context((folder / LOCK).open("a+"))
            _hold(lock, folder)
            remove_leftovers(folder / MANIFEST)
            manifest = self._manifest(repair)
            self._check(manifest)
            self.unnamed = repair and manifest is None
            if repair:
                set_aside(folder)
            finished = read_finished(folder)
        except OSError as error:
            self._open.close()
            raise _unwritable(folder, error) from error
        except BaseException:
            self._open.close()
            raise
        self.done, self.failed, self.degraded = finished.rows, finished.failed, finished.degraded
        self.fingerprint = finished.fingerprint
        self._whole = {PREDICTIONS: finished.predictions_bytes, FAILURES: finished.failures_bytes}

    def __enter__(self) -> "OutFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(OSError):  # a full or missing disk, which `put` has reported
                for file in self._files.values():
                    os.fsync(file.fileno())
        finally:
            self._open.close()

    def put(self, row: Row, extraction: Extraction | None, error: Exception | None) -> None:
        """Write the outcome of the next row: the system has it on return, the disk within `SYNC_S` of work.

        Raises:
            NamepinError: E500 when the disk is full or gone; finished rows stay, and the next run continues. E502 when
                the row's tools differ from those of the rows before it.
            ValueError: when no JSON can hold the extraction; nothing was written.
        """
        line = b"" if extraction is None else extraction.to_json().encode() + b"\n"
        if extraction is not None and extraction.status != "failed":
            self._check_tools(extraction.fingerprint)
        try:
            if error is not None:
                self.failed += 1
                self._write(FAILURES, dump_json(_failure(row, error)).encode() + b"\n")
                os.fsync(self._files[FAILURES].fileno())
            if extraction is not None:
                self._write(PREDICTIONS, line)
                self.degraded += extraction.status == "degraded"
            self._finish_row()
        except OSError as problem:
            raise _unwritable(self.folder, problem) from problem

    def put_line(self, line: bytes, degraded: bool) -> None:
        """Write the finished line of the next row unchanged.

        Raises:
            NamepinError: E500, as `put`.
        """
        try:
            self._write(PREDICTIONS, line)
            self.degraded += degraded
            self._finish_row()
        except OSError as problem:
            raise _unwritable(self.folder, problem) from problem

    def say(self, **fields: Any) -> None:
        """Write the manifest."""
        try:
            if PREDICTIONS in self._files:
                os.fsync(self._files[PREDICTIONS].fileno())  # a manifest never counts more than the disk has
            atomic_write(self.folder / MANIFEST, dump_json({**self.identity, **fields}, indent=1) + "\n")
            for name in (FAILURES, PREDICTIONS):  # they exist from the beginning, after the manifest
                self._file(name)
        except OSError as error:
            raise _unwritable(self.folder, error) from error

    def _finish_row(self) -> None:
        self.done += 1
        if time.monotonic() - self._synced >= SYNC_S:
            os.fsync(self._file(PREDICTIONS).fileno())
            self._synced = time.monotonic()

    def _check_tools(self, fingerprint: str) -> None:
        if self.fingerprint not in (None, fingerprint):
            what = "the finished rows come from other tools: another release, other weights, or other settings"
            mend = "continue with the first run's release and weights, or choose another folder with --out"
            raise NamepinError("E502", what, where=str(self.folder), mend=mend)
        self.fingerprint = fingerprint

    def _file(self, name: str) -> IO[bytes]:
        """One of the two files, opened at the end of its whole lines."""
        if name not in self._files:
            # Unbuffered: the system has a line when `write` returns, and closing writes nothing more.
            file = self._open.enter_context(open(self.folder / name, "ab", buffering=0, opener=_without_links))
            file.truncate(self._whole[name])
            self._files[name] = file
            sync(self.folder)
        return self._files[name]

    def _write(self, name: str, data: bytes) -> None:
        file, left = self._file(name), memoryview(data)
        while left:
            left = left[file.write(left) :]

    def _manifest(self, repair: bool) -> dict[str, Any] | None:
        try:
            found = parse_json((self.folder / MANIFEST).read_bytes())
            if not isinstance(found, dict):
                raise ValueError("it is not a JSON object")
            return found
        except FileNotFoundError:
            if not repair and any(_has_bytes(self.folder / name) for name in (PREDICTIONS, FAILURES)):
                what = "the folder holds other results: it has no manifest"
                mend = f"choose another folder with --out; if the results are this command's, {REPAIR}"
                raise NamepinError("E502", what, where=str(self.folder), mend=mend) from None
            return None
        except ValueError as error:
            if repair:
                return None
            what = f"the folder's manifest is damaged: {error}"
            raise NamepinError("E502", what, where=str(self.folder / MANIFEST), mend=REPAIR) from error

    def _check(self, manifest: dict[str, Any] | None) -> None:
        for key, value in self.identity.items():
            if manifest is not None and manifest.get(key) != value:
                what = f"the folder's first run had another {key.replace('_', ' ')}"
                mend = "choose another folder with --out, or use the first run's"
                raise NamepinError("E502", what, where=str(self.folder), mend=mend)


def _failure(row: Row, error: Exception) -> dict[str, Any]:
    failure = coded_error(error)
    return {
        "id": row.post.id if row.post else None,
        "row": row.number,
        "where": row.where,
        "code": failure.code,
        "reason": failure.what,
        "post": row.post is not None,
    }


def _has_bytes(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def spare_input(path: Path, folder: Path) -> None:
    """Require that the input is none of the results' files; `--repair` would replace it.

    Raises:
        NamepinError: E105.
    """
    if path.resolve() in {(folder / name).resolve() for name in _FILES}:
        what = "a result would replace the input"
        raise NamepinError("E105", what, where=str(path), mend="choose another folder with --out")


def _refuse_links(folder: Path) -> None:
    """Require that writes to the folder do not end up outside it."""
    for name in _FILES:
        path = folder / name
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            what = f"{name} is a link, or not a file"
            mend = "put a copy of the file in its place, or choose another folder with --out"
            raise NamepinError("E502", what, where=str(path), mend=mend)


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _hold(lock: Any, folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        mend = "wait for it, or choose another folder with --out"
        raise NamepinError("E501", "another process works on this folder", where=str(folder), mend=mend) from error


def _unwritable(folder: Path, error: OSError) -> NamepinError:
    mend = "make room or choose another folder with --out; the same command resumes"
    return NamepinError("E500", f"cannot write the results: {error.strerror or error}", where=str(folder), mend=mend)
