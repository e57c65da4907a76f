"""Checks every finished line of a batch's folder before a run continues. It changes nothing.

A killed process leaves a partial line at the end of a file, and a power cut may leave zeros there. Only such an end is
dropped. Any other line that is unreadable, missing or of another row ends the run (E502). The rows after it are
finished work, which `--repair` keeps (`namepin.agent.batch.repair`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from namepin.agent.batch.source import Row, Source
from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import parse_json

PREDICTIONS, FAILURES = "predictions.jsonl", "failures.jsonl"
MAX_LINE_BYTES = 2**28
"""Longest valid line; a longer line is damage, since a disk may fill a file with zeros."""
REPAIR = "run the same command with --repair: it keeps every row with a whole line, and processes the others again"


@dataclass(frozen=True, slots=True)
class FinishedLine:
    """A whole line: its number from 1, the offset of its first byte, the offset after it, and its object."""

    number: int
    start: int
    end: int
    value: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DamagedLine:
    """A line that cannot be used: its number, why, and whether a stopped process or a power cut explains it."""

    number: int
    why: str
    may_be_torn: bool


@dataclass(frozen=True)
class FinishedCounts:
    """Counts over the two result files.

    Attributes:
        rows: number of finished rows of the input.
        failed: number of failed rows.
        degraded: number of degraded posts.
        fingerprint: fingerprint of the tools behind the results; None without results.
        predictions_bytes: length of the finished lines in `predictions.jsonl`; the rest is a torn line.
        failures_bytes: the same for `failures.jsonl`.
    """

    rows: int
    failed: int
    degraded: int
    fingerprint: str | None
    predictions_bytes: int
    failures_bytes: int


def read_finished(folder: Path) -> FinishedCounts:
    """Read both files and count; torn last lines do not count.

    Failures are in the order of the rows. The last failures may be of rows without a prediction; these do not count.

    Raises:
        NamepinError: E502 for a damaged line, or a line of other tools than the lines before it.
    """
    posts = degraded = posts_end = 0
    fingerprint: str | None = None
    for line in whole_lines(folder / PREDICTIONS, check_prediction):
        posts, posts_end = line.number, line.end
        degraded += line.value["status"] == "degraded"
        if line.value["status"] == "failed":
            continue
        if fingerprint not in (None, line.value["fingerprint"]):
            raise line_error(folder / PREDICTIONS, line.number, "its tools differ from those of the lines before it")
        fingerprint = line.value["fingerprint"]
    not_posts = failed = failures_end = last = 0
    for line in whole_lines(folder / FAILURES, check_failure):
        row, is_post = line.value["row"], line.value["post"]
        if row <= last:
            raise line_error(folder / FAILURES, line.number, f"row {row} comes after row {last}")
        if row - not_posts - (not is_post) > posts:  # more posts up to there than were predicted
            break
        not_posts += not is_post
        last, failed, failures_end = row, failed + 1, line.end
    return FinishedCounts(posts + not_posts, failed, degraded, fingerprint, posts_end, failures_end)


def finished_posts(source: Source, folder: Path, rows: int) -> Iterator[tuple[Row, dict[str, Any]]]:
    """The posts among the first `rows` rows of the input, each with its prediction.

    Raises:
        NamepinError: E502 if a row has no line, or the line of another row.
    """
    if not rows:
        return
    predictions = whole_lines(folder / PREDICTIONS, check_prediction)
    failures = whole_lines(folder / FAILURES, check_failure)
    failure = next(failures, None)
    for row in takewhile(lambda row: row.number <= rows, source.rows()):
        failed = failure is not None and failure.value["row"] == row.number
        if failed and failure is not None:
            _match_failure(folder, row, failure)
            failure = next(failures, None)
        if row.post is None:
            if not failed:
                raise _missing(folder / FAILURES, row, "is not a post")
            continue
        line = next(predictions, None)
        if line is None:
            raise _missing(folder / PREDICTIONS, row, f"is post {row.post.id!r}")
        if line.value["id"] != row.post.id:
            what = f"it is about post {line.value['id']!r}, and row {row.number} of the input is {row.post.id!r}"
            raise line_error(folder / PREDICTIONS, line.number, what)
        if failed != (line.value["status"] == "failed"):
            raise (
                _missing(folder / FAILURES, row, "failed")
                if not failed
                else line_error(
                    folder / PREDICTIONS, line.number, f"row {row.number} failed, and this line says otherwise"
                )
            )
        yield row, line.value
    if (line := next(predictions, None)) is not None:
        raise line_error(folder / PREDICTIONS, line.number, "the input has no row for it")


def whole_lines(path: Path, check: Callable[[Any], object]) -> Iterator[FinishedLine]:
    """The lines of a result file, one after the other, without a torn last line.

    Args:
        path: the file; a missing file has no lines.
        check: raises ValueError for a value that is not a result.

    Raises:
        NamepinError: E502 for any other line that is damaged.
    """
    lines = parse_lines(path, check)
    for line in lines:
        if isinstance(line, FinishedLine):
            yield line
        elif line.may_be_torn and next(lines, None) is None:
            return
        else:
            raise line_error(path, line.number, line.why)


def parse_lines(path: Path, check: Callable[[Any], object]) -> Iterator[FinishedLine | DamagedLine]:
    """Every line of a result file, whole or damaged; a missing file has no lines. `check` is as in `whole_lines`."""
    if not path.exists():
        return
    with path.open("rb") as file:
        number = start = 0
        while data := file.readline(MAX_LINE_BYTES):
            number, end = number + 1, start + len(data)
            try:
                if not data.endswith(b"\n"):
                    raise ValueError("it has no end")
                value = parse_json(data)
                check(value)
            except ValueError as error:
                yield DamagedLine(number, str(error), may_be_torn=not data.endswith(b"\n") or b"\0" in data)
            else:
                yield FinishedLine(number, start, end, value)
            start = end


def check_prediction(value: Any) -> None:
    """Raise ValueError if a value lacks the required fields of a prediction."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    image = value.get("image")
    good = (
        isinstance(value.get("id"), str),
        value.get("status") in ("ok", "degraded", "failed"),
        isinstance(value.get("text"), str),
        isinstance(value.get("fingerprint"), str),
        isinstance(value.get("entities"), list),
        "image" in value,
        image is None or (isinstance(image, dict) and isinstance(image.get("sha256"), str)),
        isinstance(value.get("warnings"), list) and all(map(_is_notice, value["warnings"])),
    )
    if not all(good):
        raise ValueError("not an Extraction")


def _is_notice(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(value.get(key), str) for key in ("code", "tool", "message"))


def check_failure(value: Any) -> None:
    """Raise ValueError if a value is not a line of `failures.jsonl`."""
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    row = value.get("row")
    good = (
        isinstance(row, int) and not isinstance(row, bool) and row > 0,
        isinstance(value.get("post"), bool),
        "id" in value,
        value.get("id") is None or isinstance(value["id"], str),
        all(isinstance(value.get(key), str) for key in ("where", "code", "reason")),
    )
    if not all(good):
        raise ValueError("not a line about a failed row")


def line_error(path: Path, number: int, why: str) -> NamepinError:
    """The error for an unreliable finished line."""
    return NamepinError("E502", f"a finished line is damaged: {why}", where=f"{path}:{number}", mend=REPAIR)


def _match_failure(folder: Path, row: Row, failure: FinishedLine) -> None:
    name = row.post.id if row.post else None
    if failure.value["post"] != (row.post is not None) or failure.value["id"] != name:
        what = f"row {row.number} of the input is a different one ({row.where})"
        raise line_error(folder / FAILURES, failure.number, what)


def _missing(path: Path, row: Row, kind: str) -> NamepinError:
    what = f"row {row.number} of the input {kind}, and has no line"
    return NamepinError("E502", what, where=f"{path}, {row.where}", mend=REPAIR)
