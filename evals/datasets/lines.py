"""A text file as numbered lines: UTF-8, where only a line feed ends a line."""

from collections.abc import Iterator
from pathlib import Path

_FORMS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"\x1f\x8b", "gzip"),
    (b"PK\x03\x04", "zip"),
    (b"PAR1", "Parquet"),
)


def foreign_form(path: Path) -> str | None:
    """Why a file is unreadable as a whole, and how to fix it; None for a file that may be UTF-8 text."""
    with path.open("rb") as file:
        head = file.read(4096)
    for signature, name in _FORMS:
        if head.startswith(signature):
            text = name.startswith("UTF")
            return f"the file is {name}, not UTF-8; " + ("save it as UTF-8" if text else "unpack it first")
    if b"\x00" in head[:2] and len(head) > 1 and head[:2] != b"\x00\x00":  # UTF-16 without its mark
        return "the file is UTF-16, not UTF-8; save it as UTF-8"
    if b"\r" in head and b"\n" not in head and len(head) < 4096:
        return "the file's lines end with CR alone; save it with LF line ends"
    return None


def numbered_lines(path: Path) -> Iterator[tuple[int, str | None]]:
    """Lines with their numbers, from 1; None for a line that is not UTF-8.

    Only a line feed ends a line, since tokens may hold Unicode's other separators. A byte order mark at the start and a
    carriage return at the end are removed.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
            try:
                yield number, raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError:
                yield number, None
