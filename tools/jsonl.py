"""JSON and JSONL: one reader and one writer, with the same rules for every file of rows.

A file is UTF-8 and may begin with a byte order mark. Only LF ends a line, so U+2028 and similar characters are text.
Blank lines are skipped. NaN, Infinity and numbers beyond a float's range are refused, in input and in output.
"""

import io
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from pydantic import ValidationError

from namepin.tools.errors import NamepinError, first_problem

MAX_LINE_BYTES = 2**24
"""A longer line is refused without being read into memory."""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Line:
    """A line that is not blank.

    Attributes:
        data: its bytes; for a line that is too long, only its beginning.
        number: the line's number, from 1; blank lines count.
        file: the file's name; "" for a stream without one.
        max_bytes: a longer line cannot be parsed.
    """

    data: bytes
    number: int
    file: str = ""
    max_bytes: int = MAX_LINE_BYTES

    @property
    def where(self) -> str:
        """The line's place for messages: `FILE:NUMBER`, or `line NUMBER`."""
        return f"{self.file}:{self.number}" if self.file else f"line {self.number}"

    def parse(self) -> Any:
        """The line's value.

        Raises:
            ValueError: when the line is too long, or as `parse_json`.
        """
        if len(self.data) > self.max_bytes:
            raise ValueError(f"a line of more than {self.max_bytes} bytes")
        return parse_json(self.data)

    def parse_object(self) -> dict[str, Any]:
        """The line's JSON object.

        Raises:
            ValueError: when it holds another kind of value, or as `parse`.
        """
        value = self.parse()
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value


def read_lines(source: Path | bytes | IO[bytes], max_bytes: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """The lines of a file, of bytes or of a binary stream, one at a time; blank lines are skipped.

    Raises:
        OSError: when the file cannot be read.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield from _lines(file, str(source), max_bytes)
    else:
        yield from _lines(io.BytesIO(source) if isinstance(source, bytes) else source, "", max_bytes)


def _lines(file: IO[bytes], name: str, max_bytes: int) -> Iterator[Line]:
    number = 0
    while data := file.readline(max_bytes + 1):
        number += 1
        if data.removeprefix(_BOM).strip():
            yield Line(data, number, name, max_bytes)
        while not data.endswith(b"\n") and (data := file.readline(max_bytes)):
            pass  # skip the rest of a line that is too long


def read_rows(path: Path, convert: Callable[[dict[str, Any]], Row], kind: str, mend: str = "") -> Iterator[Row]:
    """The rows of a file of JSON objects, as `read_placed_rows` without the places."""
    return (row for _, row in read_placed_rows(path, convert, kind, mend))


def read_placed_rows(
    path: Path, convert: Callable[[dict[str, Any]], Row], kind: str, mend: str = ""
) -> Iterator[tuple[str, Row]]:
    """The rows of a file of JSON objects, each with its place.

    Args:
        path: the file.
        convert: makes a row from an object. Its ValueError, KeyError or TypeError refuses the line.
        kind: a name for such a row, for messages: "a row of boxes".
        mend: how to fix a row.

    Raises:
        NamepinError: E130 when the file cannot be read, E134 at the first line that is not a row.
    """
    for line in _readable_lines(path):
        try:
            row = convert(line.parse_object())
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise NamepinError("E134", f"not {kind}: {reason(error)}", where=line.where, mend=mend) from error
        yield line.where, row


def _readable_lines(path: Path) -> Iterator[Line]:
    try:
        yield from read_lines(path)
    except OSError as error:
        what = f"cannot read the file: {error.strerror or error}"
        raise NamepinError("E130", what, where=str(path), mend="check the path") from error


def reason(error: Exception) -> str:
    """Why a row could not be made, as text."""
    if isinstance(error, ValidationError):
        return first_problem(error)
    if isinstance(error, KeyError):
        return f"{str(error.args[0])!r} is missing" if error.args else "a key is missing"
    return str(error) or type(error).__name__


def parse_json(data: bytes | str, *, non_finite_as_null: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        data: the text; bytes are UTF-8 and may begin with a byte order mark.
        non_finite_as_null: read NaN, Infinity and numbers beyond a float's range as None instead of refusing the text.

    Raises:
        ValueError: when the text is not UTF-8 or not JSON, is nested too deeply, or holds a number that is not finite.
    """
    number, constant = (_finite_or_none, _none) if non_finite_as_null else (_finite, _refuse)
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        return json.loads(text, parse_constant=constant, parse_float=number)
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte 0x{error.object[error.start]:02x} at position {error.start}") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at position {error.pos}") from error
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error


def dump_json(value: Any, *, indent: int | None = None, compact: bool = False, sort_keys: bool = False) -> str:
    """A value as strict JSON text that can be encoded as UTF-8: lone surrogates are escaped, other text is not.

    Args:
        value: any value that `json.dumps` takes.
        indent: spaces per level; None for one line.
        compact: leave out the blanks after commas and colons.
        sort_keys: order objects by their keys.

    Raises:
        ValueError: when it holds a number that is not finite.
    """
    separators = (",", ":") if compact else None

    def dump(ensure_ascii: bool) -> str:
        return json.dumps(
            value, ensure_ascii=ensure_ascii, allow_nan=False, indent=indent, separators=separators, sort_keys=sort_keys
        )

    text = dump(ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return dump(ensure_ascii=True)
    return text


def dump_line(value: Any, *, compact: bool = False) -> bytes:
    """A value as a line of a JSONL file; as `dump_json`.

    Raises:
        ValueError: when it holds a number that is not finite.
    """
    return dump_json(value, compact=compact).encode() + b"\n"


_BOM = b"\xef\xbb\xbf"


def _refuse(name: str) -> Any:
    raise ValueError(f"not JSON: {name} is not a finite number")


def _finite(text: str) -> float:
    value = _finite_or_none(text)
    return value if value is not None else _refuse(text[:40])


def _finite_or_none(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


def _none(name: str) -> None:
    """Replaces NaN, Infinity and -Infinity."""
