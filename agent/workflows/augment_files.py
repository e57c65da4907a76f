"""The files of `namepin data augment`: what each model has said, and all of it merged; nothing is lost.

`FOLDER/SPLIT.MODEL.jsonl` is a part: lines are added to it as answers come. `SPLIT.MODEL.tokens` beside it has a line
of two numbers for every question that was paid for. `FOLDER/SPLIT.jsonl` is made of all parts that lie beside it.
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
"""The part of those rows of a merged file that no part has: a data set's own, say."""


@dataclass(frozen=True)
class Parts:
    """The parts of a split and what is merged of them.

    Attributes:
        folder: of one kind.
        split: of the data set.
        needed: keys that every row has.
    """

    folder: Path
    split: str
    needed: Sequence[str]

    @property
    def merged(self) -> Path:
        """What recipes read."""
        return self.folder / f"{self.split}.jsonl"

    def part(self, model: str) -> Path:
        """Of a model."""
        return self.folder / f"{self.split}.{file_name(model)}.jsonl"

    def every(self) -> list[Path]:
        """All parts that are there, what was there before first, the others by name."""
        found = sorted(self.folder.glob(f"{self.split}.*.jsonl"))
        return sorted(found, key=lambda file: file != self.part(BEFORE))

    def rows(self, file: Path) -> list[Row]:
        """The rows of a part, or of the merged file; a part's last line may have been cut off by a kill.

        Raises:
            NamepinError: E134 for a line that is none of ours.
        """
        rows: list[Row] = []
        for line in read_lines(file) if file.is_file() else ():
            try:
                rows.append(self._row(line))
            except (ValueError, KeyError) as error:
                if not line.data.endswith(b"\n") and file != self.merged:
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
        return [row for row in self.rows(self.merged) if _line(row) not in known]

    def end_line(self, file: Path) -> None:
        """Make a part ready for another line: a row that was cut off is taken off it."""
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
        """All parts' rows, those of a post or name together; returns how many the merged file has.

        What the merged file alone has becomes a part first. Where the parts are empty it is left as it is.
        """
        parts = [self.rows(file) for file in self.every()]
        if not any(parts):
            return len(self.rows(self.merged))
        if strange := self.strange():
            before = self.part(BEFORE)
            _put(before, [*self.rows(before), *strange])
            parts = [self.rows(file) for file in self.every()]
        together: dict[tuple[str, str], list[Row]] = {}
        for rows in parts:
            for row in rows:
                together.setdefault(key_of(row), []).append(row)
        merged = [row for rows in together.values() for row in rows]
        _put(self.merged, merged)
        return len(merged)


def key_of(row: Row) -> tuple[str, str]:
    """The post's id, and the name where there is one."""
    return str(row["id"]), str(row.get("text", ""))


def add_row(part: Path, row: Row) -> None:
    """Write down an answer, at once."""
    with part.open("ab") as stream:
        stream.write(dump_line(row))


def add_tokens(part: Path, spent: Usage) -> None:
    """Write down what a question has cost, answered or not."""
    if spent.answers:
        with part.with_suffix(".tokens").open("a", encoding="ascii") as stream:
            stream.write(f"{spent.prompt_tokens} {spent.completion_tokens}\n")


def tokens_of(part: Path) -> tuple[int, int]:
    """Prompt and answer tokens of all runs so far; what is no two numbers is left out."""
    file = part.with_suffix(".tokens")
    lines = file.read_text("ascii", "replace").splitlines() if file.is_file() else []
    counts = [line.split() for line in lines]
    paid = [(int(one[0]), int(one[1])) for one in counts if len(one) == 2 and all(map(str.isdecimal, one))]
    return sum(prompt for prompt, _ in paid), sum(answer for _, answer in paid)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Turn what a wrong folder, or a full or read-only disk, raises into E500."""
    try:
        yield
    except OSError as error:
        what = f"the answers cannot be kept: {error.strerror or error}"
        mend = "make room or choose another --out; what was answered is kept, the same command goes on"
        raise NamepinError("E500", what, where=str(error.filename or out), mend=mend) from error


def _put(file: Path, rows: Iterable[Row]) -> None:
    """Write beside, then move into place: a kill at any moment leaves the file before."""
    atomic_write(file, map(dump_line, rows))


def _line(row: Row) -> str:
    return json.dumps(row, sort_keys=True)
