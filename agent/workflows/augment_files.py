"""The files of `namepin data augment`: each model's answers, and all answers merged. No answer is ever lost.

`FOLDER/SPLIT.MODEL.jsonl` is a part; answers are appended to it. `SPLIT.MODEL.tokens` beside it has one line of two
numbers per paid question. `FOLDER/SPLIT.jsonl` merges all parts beside it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write, file_name
from namepin.tools.jsonl import Line, dump_line, read_lines, reason
from namepin.tools.llm.usage import Usage

Row = Mapping[str, Any]

BEFORE = "before"
"""The part for rows of a merged file that are in no part, such as the data set's own rows."""


@dataclass(frozen=True)
class Parts:
    """The parts of a split and their merged file.

    Attributes:
        folder: folder of one kind of rows.
        split: split of the data set.
        needed: keys that every row has.
    """

    folder: Path
    split: str
    needed: Sequence[str]

    @property
    def merged_file(self) -> Path:
        """The merged file, which recipes read."""
        return self.folder / f"{self.split}.jsonl"

    def part(self, model: str) -> Path:
        """The part of a model."""
        return self.folder / f"{self.split}.{file_name(model)}.jsonl"

    def every(self) -> list[Path]:
        """All existing parts: first the data set's own, then the others by name."""
        found = sorted(self.folder.glob(f"{self.split}.*.jsonl"))
        return sorted(found, key=lambda file: file != self.part(BEFORE))

    def rows(self, file: Path) -> list[Row]:
        """The rows of a part or of the merged file. A kill may have truncated a part's last line.

        Raises:
            NamepinError: E134 for a line in another form.
        """
        rows: list[Row] = []
        for line in read_lines(file) if file.is_file() else ():
            try:
                rows.append(self._row(line))
            except (ValueError, KeyError) as error:
                if not line.data.endswith(b"\n") and file != self.merged_file:
                    break
                what = f"not a row of {', '.join(self.needed)}: {reason(error)}"
                raise NamepinError("E134", what, where=line.where, mend="mend the line") from error
        return rows

    def _row(self, line: Line) -> Row:
        row = line.parse_object()
        for key in self.needed:
            row[key]
        return row

    def strange(self) -> list[Row]:
        """Rows of the merged file that no part has."""
        known = {_line(row) for file in self.every() for row in self.rows(file)}
        return [row for row in self.rows(self.merged_file) if _line(row) not in known]

    def end_line(self, file: Path) -> None:
        """Prepare a part for another line: remove a truncated row."""
        with file.open("ab+") as stream:
            stream.seek(0)
            data = stream.read()
            whole = data.rfind(b"\n") + 1
            if not data[whole:]:
                return
            try:
                self._row(Line(data[whole:], 0))
            except (ValueError, KeyError):
                stream.truncate(whole)
            else:
                stream.write(b"\n")

    def merge(self) -> int:
        """Merge all parts' rows, grouped by post or name; returns the number of rows of the merged file.

        Rows that only the merged file has become a part first. If all parts are empty, the file stays unchanged.
        """
        parts = [self.rows(file) for file in self.every()]
        if not any(parts):
            return len(self.rows(self.merged_file))
        if strange := self.strange():
            before = self.part(BEFORE)
            _put(before, [*self.rows(before), *strange])
            parts = [self.rows(file) for file in self.every()]
        together: dict[tuple[str, str], list[Row]] = {}
        for rows in parts:
            for row in rows:
                together.setdefault(key_of(row), []).append(row)
        merged = [row for rows in together.values() for row in rows]
        _put(self.merged_file, merged)
        return len(merged)


def key_of(row: Row) -> tuple[str, str]:
    """The post's id, and the name if there is one."""
    return str(row["id"]), str(row.get("text", ""))


def add_row(part: Path, row: Row) -> None:
    """Append an answer at once."""
    with part.open("ab") as stream:
        stream.write(dump_line(row))


def add_tokens(part: Path, spent: Usage) -> None:
    """Record the cost of a question, answered or not."""
    if spent.answers:
        with part.with_suffix(".tokens").open("a", encoding="ascii") as stream:
            stream.write(f"{spent.prompt_tokens} {spent.completion_tokens}\n")


def tokens_of(part: Path) -> tuple[int, int]:
    """Prompt and answer tokens of all runs so far; lines without two numbers are skipped."""
    file = part.with_suffix(".tokens")
    lines = file.read_text("ascii", "replace").splitlines() if file.is_file() else []
    counts = [line.split() for line in lines]
    paid = [(int(one[0]), int(one[1])) for one in counts if len(one) == 2 and all(map(str.isdecimal, one))]
    return sum(prompt for prompt, _ in paid), sum(answer for _, answer in paid)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn the errors of a wrong folder or a full or read-only disk into E500."""
    try:
        yield
    except OSError as error:
        what = f"the answers cannot be written: {error.strerror or error}"
        mend = "make room or choose another --out; answers so far stay, and the same command resumes"
        raise NamepinError("E500", what, where=str(error.filename or out), mend=mend) from error


def _put(file: Path, rows: Iterable[Row]) -> None:
    """Write beside the file, then replace it: a kill at any moment leaves the old file."""
    atomic_write(file, map(dump_line, rows))


def _line(row: Row) -> str:
    return json.dumps(row, sort_keys=True)
