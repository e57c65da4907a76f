"""CSV: one reader, with the same rules for every table of posts.

A table is UTF-8 and may begin with a byte order mark. Its first line names the columns. The delimiter is the one that
this line has most of. Blank rows are skipped, and empty cells are left out. A cell of `tokens` is a JSON array.
"""

import csv
import io
from collections.abc import Iterator
from typing import IO, Any

from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import MAX_LINE_BYTES, parse_json

_DELIMITERS = ",;\t|"


def read_csv_rows(
    data: IO[bytes], file: str = "", *, id_needed: bool = False
) -> Iterator[tuple[int, dict[str, Any] | NamepinError]]:
    """The rows of a table of posts, each with the number of its first line.

    Args:
        data: the table's bytes.
        file: its name for messages; "" for none.
        id_needed: whether the table must have the column `id`.

    Yields:
        The line, and the row by its columns; or the reason why it cannot be read (E103).

    Raises:
        NamepinError: E104 when the first line does not name the needed columns once each, or a line is too long.
    """
    text = io.TextIOWrapper(data, "utf-8-sig", "surrogateescape", newline="")
    try:
        yield from _rows(text, file, id_needed)
    finally:
        text.detach()  # the caller closes the bytes


def _rows(text: io.TextIOWrapper, file: str, id_needed: bool) -> Iterator[tuple[int, dict[str, Any] | NamepinError]]:
    csv.field_size_limit(MAX_LINE_BYTES)
    first = text.readline(MAX_LINE_BYTES)
    delimiter = max(_DELIMITERS, key=first.count)
    columns = _columns(first, delimiter, _where(file, 1), id_needed)
    rows = csv.reader(_short_lines(text, file), delimiter=delimiter, strict=True)
    while True:
        line = rows.line_num + 2
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            what = f"not a row of CSV: {error}"
            yield line, NamepinError("E103", what, where=_where(file, line), mend="check its quotes")
            continue
        if any(cell.strip() for cell in cells):
            yield line, _row(columns, cells, _where(file, line))


def _columns(first: str, delimiter: str, where: str, id_needed: bool) -> list[str]:
    try:
        first.encode()
        names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter, strict=True), [])]
    except (UnicodeEncodeError, csv.Error) as error:
        what = f"not a table: {error}" if isinstance(error, csv.Error) else "the table is not UTF-8"
        raise NamepinError("E104", what, where=where, mend="save it as CSV in UTF-8") from error
    if not {"text", "tokens"} & set(names) or (id_needed and "id" not in names):
        told = ", ".join(names)[:200] or "(none)"
        what = f"the table has the columns {told}; it needs {'id, and ' if id_needed else ''}text or tokens"
        raise NamepinError("E104", what, where=where, mend="name them in its first line")
    if twice := {name for name in names if names.count(name) > 1 and name}:
        what = f"the table has the column {min(twice)!r} twice"
        raise NamepinError("E104", what, where=where, mend="name each column once")
    return names


def _row(columns: list[str], cells: list[str], where: str) -> dict[str, Any] | NamepinError:
    if len(cells) > len(columns):
        what = f"a row of {len(cells)} cells, and the first line names {len(columns)}"
        return NamepinError("E103", what, where=where, mend='quote a cell that holds the delimiter: "a, b"')
    row: dict[str, Any] = {name: cell for name, cell in zip(columns, cells, strict=False) if cell.strip() and name}
    try:
        "".join(cells).encode()
        if "tokens" in row:
            row["tokens"] = parse_json(row["tokens"])
    except UnicodeEncodeError:
        return NamepinError("E103", "not UTF-8", where=where, mend="save the table as UTF-8")
    except ValueError as error:
        what = f"tokens are not a JSON array: {error}"
        return NamepinError("E103", what, where=where, mend='write them as ["So", "proud"]')
    return row


def _short_lines(text: io.TextIOWrapper, file: str) -> Iterator[str]:
    while line := text.readline(MAX_LINE_BYTES + 1):
        if len(line) > MAX_LINE_BYTES:
            mend = "split the text, or check the quotes"
            raise NamepinError("E104", f"a line of more than {MAX_LINE_BYTES} characters", where=file, mend=mend)
        yield line


def _where(file: str, line: int) -> str:
    return f"{file}:{line}" if file else f"line {line}"
