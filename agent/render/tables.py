"""Rows as CSV that a spreadsheet opens safely."""

import csv
import io
from collections.abc import Sequence

_FORMULA = frozenset("=+-@＝＋－＠")
"""First characters of a formula, also in the full-width form, which spreadsheets of some languages accept too."""


def as_csv(rows: Sequence[dict[str, str]], *, header: bool = True) -> str:
    """Rows with the same keys as CSV. No cell is a formula.

    Args:
        rows: the rows.
        header: whether the first line names the columns.
    """
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]) if rows else ["name"], lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows({key: _harmless(value) for key, value in row.items()} for row in rows)
    return file.getvalue()


def _harmless(value: str) -> str:
    """A cell that a spreadsheet does not run as a formula."""
    begins = value[:1] in ("\t", "\r", "\n") or value.lstrip()[:1] in _FORMULA
    return "'" + value if begins else value
