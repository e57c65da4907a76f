"""`--repair`: finishes a folder with damaged lines and keeps every whole line.

The two result files are set aside under fixed names and begun anew. A row reuses its old line if the id, text, picture
and tools are the same. Failed rows and rows without a whole line are processed again.
"""

import shutil
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import IO, Any

from namepin.agent.batch.finished import (
    FAILURES,
    PREDICTIONS,
    FinishedLine,
    check_failure,
    check_prediction,
    parse_lines,
)
from namepin.agent.batch.pictures import picture_change
from namepin.agent.batch.source import Row, Source
from namepin.tools.errors import NamepinError
from namepin.tools.files import sync
from namepin.tools.jsonl import parse_json
from namepin.tools.text import clean_text

SET_ASIDE = {PREDICTIONS: "predictions.damaged.jsonl", FAILURES: "failures.damaged.jsonl"}


def set_aside(folder: Path) -> None:
    """Append the lines of both files to the files set aside earlier.

    A crash in between duplicates lines, which is harmless.
    """
    for name, aside in SET_ASIDE.items():
        if not (folder / name).exists():
            continue
        with (folder / name).open("rb") as lines, (folder / aside).open("ab") as target:
            if target.tell() and not _ends_a_line(folder / aside):
                target.write(b"\n")
            shutil.copyfileobj(lines, target)
        sync(folder / aside)
    sync(folder)
    for name in SET_ASIDE:
        (folder / name).unlink(missing_ok=True)


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read() == b"\n"


class UsableLines(Container[int]):
    """The reusable lines among those set aside, by row number.

    Args:
        folder: the batch's folder.
        source: the input.
        done: number of finished rows; only later rows count.
        max_pixels: largest number of pixels per picture.
        fingerprint: fingerprint of this run's tools. None if unknown yet; then all lines must have one fingerprint.
    """

    def __init__(self, folder: Path, source: Source, done: int, max_pixels: int, fingerprint: str | None) -> None:
        self.path = folder / SET_ASIDE[PREDICTIONS]
        self._places: dict[int, tuple[int, int]] = {}
        self.fingerprint = fingerprint
        self._file: IO[bytes] | None = None
        if not self.path.exists():
            return
        by_id = {line.value["id"]: (line.start, line.end) for line in _readable_lines(self.path, check_prediction)}
        for line in _readable_lines(folder / SET_ASIDE[FAILURES], check_failure):
            by_id.pop(line.value["id"], None)
        self._file = self.path.open("rb")
        for row in source.rows():
            if row.number > done and row.post is not None and row.post.id in by_id:
                place = by_id[row.post.id]
                if self._is_of(row, self._read(place), max_pixels):
                    self._places[row.number] = place

    def __contains__(self, number: object) -> bool:
        return number in self._places

    @property
    def rows(self) -> frozenset[int]:
        """The rows' numbers."""
        return frozenset(self._places)

    def take(self, number: int) -> tuple[bytes, bool]:
        """The line of a row, and whether its post is degraded."""
        data = self._read(self._places[number])
        return data, parse_json(data)["status"] == "degraded"

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _read(self, place: tuple[int, int]) -> bytes:
        assert self._file is not None
        self._file.seek(place[0])
        return self._file.read(place[1] - place[0])

    def _is_of(self, row: Row, data: bytes, max_pixels: int) -> bool:
        assert row.post is not None
        found = parse_json(data)
        try:
            text = clean_text(row.post.text)
        except NamepinError:
            return False
        self.fingerprint = self.fingerprint or found["fingerprint"]
        return (
            found["status"] != "failed"
            and found["text"] == text
            and (found.get("extra") or {}) == dict(row.post.extra)
            and found["fingerprint"] == self.fingerprint
            and not picture_change(row, found, max_pixels)
        )


def _readable_lines(path: Path, check: Callable[[Any], object]) -> Iterator[FinishedLine]:
    """The whole lines of a file; damaged parts between them are skipped."""
    return (line for line in parse_lines(path, check) if isinstance(line, FinishedLine))
