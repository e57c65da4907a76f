"""The rows of a batch's file of any supported kind: JSONL, CSV, either of them in gzip, or Parquet.

The first bytes decide the kind, since names may be wrong; only CSV is recognised by its name. Other kinds are rejected
by name (E104) before anything is written.
"""

import gzip
import json
import os
import zlib
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Literal
from uuid import UUID

from namepin.tools.csv_rows import read_csv_rows
from namepin.tools.errors import NamepinError, install_command
from namepin.tools.jsonl import MAX_LINE_BYTES, read_lines

Kind = Literal["jsonl", "csv", "parquet"]
Placed = tuple[str, dict[str, Any] | NamepinError]
"""A row's place, for messages, and the row or the reason why it cannot be read."""

_HEAD_BYTES = 2**16
_ROWS, _ROWS_WITH_BYTES = 1024, 16
"""Number of Parquet rows in memory at a time; rows with bytes may hold pictures."""
_FOREIGN = {
    b"\xff\xfe\x00\x00": ("UTF-32 text", "save it as UTF-8: iconv -f UTF-32 -t UTF-8 FILE > NEW"),
    b"\x00\x00\xfe\xff": ("UTF-32 text", "save it as UTF-8: iconv -f UTF-32 -t UTF-8 FILE > NEW"),
    b"\xff\xfe": ("UTF-16 text", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"\xfe\xff": ("UTF-16 text", "save it as UTF-8: iconv -f UTF-16 -t UTF-8 FILE > NEW"),
    b"PK\x03\x04": ("a ZIP archive or a spreadsheet", "unpack it, or save the table as CSV in UTF-8"),
    b"\x28\xb5\x2f\xfd": ("a Zstandard archive", "unpack it: zstd -d FILE"),
    b"BZh": ("a bzip2 archive", "unpack it: bunzip2 FILE"),
    b"\xfd7zXZ\x00": ("an xz archive", "unpack it: unxz FILE"),
    b"ARROW1": ("an Arrow (Feather) file", "save it as Parquet"),
    b"ORC": ("an ORC file", "save it as Parquet"),
    b"Obj\x01": ("an Avro file", "save it as Parquet or JSONL"),
    b"SQLite format 3": ("an SQLite database", "export the table as CSV or JSONL"),
    b"\x89HDF": ("an HDF5 file", "save it as Parquet or JSONL"),
    b"\x80\x04\x95": ("a pickle, which is never opened", "save it as Parquet or JSONL"),
}
_ARRAY = "write one object per line: jq -c '.[]' FILE > NEW.jsonl"


class InputFile:
    """A file of rows.

    Raises:
        NamepinError: E104 when its kind is not supported, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _readable(path):
            with path.open("rb") as file:
                self.gzip = file.read(2) == b"\x1f\x8b"
            with self._bytes() as data:
                head = data.read(_HEAD_BYTES)
        self.kind = self._kind(head)

    def rows(self) -> Iterator[Placed]:
        """Every row, in order.

        Raises:
            NamepinError: E104 when a part of the file is damaged.
        """
        if self.kind == "parquet":
            yield from self._parquet()
            return
        with _readable(self.path), self._bytes() as data:
            yield from self._csv(data) if self.kind == "csv" else self._jsonl(data)

    def count(self) -> int:
        """Rows, or lines for text. Truncated and damaged files are detected here.

        Raises:
            NamepinError: E104, as `rows`.
        """
        if self.kind == "parquet":
            with _parquet_file(self.path) as file:
                return int(file.metadata.num_rows)
        with _readable(self.path), self._bytes() as data:
            return sum(part.count(b"\n") for part in iter(lambda: data.read(2**20), b""))

    def _bytes(self) -> IO[bytes]:
        if self.gzip:
            return gzip.open(self.path, "rb")  # type: ignore[return-value]  # GzipFile is no IO[bytes]
        return self.path.open("rb")

    def _kind(self, head: bytes) -> Kind:
        if head.startswith(b"PAR1") or self.path.suffix.lower() == ".parquet":
            if self.gzip:
                raise self._other("Parquet in gzip", "unpack it: gunzip FILE")
            return "parquet"
        for magic, (name, mend) in _FOREIGN.items():
            if head.startswith(magic):
                raise self._other(name, mend)
        if b"\0" in head[:4]:
            raise self._other("UTF-16 or UTF-32 text, or not text", "save it as UTF-8")
        name = self.path.name.lower().removesuffix(".gz")
        if name.endswith((".csv", ".tsv")):
            return "csv"
        if _is_array(head):
            raise self._other("one JSON array, not JSONL", _ARRAY)
        return "jsonl"

    def _other(self, name: str, mend: str) -> NamepinError:
        return NamepinError("E104", f"the file is {name}", where=str(self.path), mend=mend)

    def _jsonl(self, data: IO[bytes]) -> Iterator[Placed]:
        for line in read_lines(data, MAX_LINE_BYTES):
            where = f"{self.path}:{line.number}"
            try:
                yield where, line.parse_object()
            except ValueError as error:
                mend = "give one JSON object per line"
                yield where, NamepinError("E103", str(error), where=where, mend=mend)

    def _csv(self, data: IO[bytes]) -> Iterator[Placed]:
        for line, row in read_csv_rows(data, str(self.path), id_needed=True):
            yield f"{self.path}:{line}", row

    def _parquet(self) -> Iterator[Placed]:
        number = 0
        with _parquet_file(self.path) as file:
            size = _ROWS_WITH_BYTES if "binary" in str(file.schema_arrow) else _ROWS
            for batch in file.iter_batches(batch_size=size):
                for value in _values(batch):
                    number += 1
                    where = f"{self.path}:{number}"
                    if isinstance(value, Exception):
                        what = f"a value that cannot be read: {value}"
                        yield where, NamepinError("E103", what, where=where, mend="check the row's columns")
                    else:
                        yield where, {key: inner for key, inner in value.items() if inner is not None}


def plain(value: Any) -> Any:
    """A value of a Parquet file as JSON: bytes in base64, times in ISO 8601, other values as text."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        return b64encode(value).decode("ascii")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return str(value) if isinstance(value, Decimal | UUID) else repr(value)


def _values(batch: Any) -> Iterable[dict[str, Any] | Exception]:
    """The rows of a batch. A row that Python cannot hold (a date in the year 20,000) does not lose the other rows."""
    try:
        return list(batch.to_pylist())
    except (ValueError, OverflowError, ArithmeticError):
        return [_value(batch.slice(row, 1)) for row in range(batch.num_rows)]


def _value(row: Any) -> dict[str, Any] | Exception:
    try:
        found: dict[str, Any] = row.to_pylist()[0]
    except (ValueError, OverflowError, ArithmeticError) as error:
        return error
    return found


def _is_array(head: bytes) -> bool:
    """Whether the file is one JSON array. A first line that is a whole value without objects is a bad row instead."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not text.startswith(b"["):
        return False
    try:
        value = json.loads(text.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return True
    return isinstance(value, list) and any(isinstance(inner, dict) for inner in value)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """E104 for a file that cannot be read, or is damaged."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        mend = "check the file; create a damaged archive again"
        raise NamepinError("E104", f"the file cannot be read: {reason}", where=str(path), mend=mend) from error


@contextmanager
def _parquet_file(path: Path) -> Iterator[Any]:
    try:
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        mend = install_command("namepin[scale]")
        raise NamepinError("E301", "Parquet needs the package 'pyarrow'", where=str(path), mend=mend) from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError) as error:
        raise NamepinError("E104", f"not a Parquet file: {error}", where=str(path)) from error
