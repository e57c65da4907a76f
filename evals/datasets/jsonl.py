"""Any folder of JSONL: `SPLIT.jsonl`, one `{"id", "text" | "tokens", "image", "entities": [...]}` per line.

`evals/datasets/rows.py` says what an entity is. Pictures are relative to the file.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from namepin.evals.datasets.conll import split_file
from namepin.evals.datasets.gold import Dataset
from namepin.evals.datasets.lines import foreign_form
from namepin.evals.datasets.losses import Losses
from namepin.evals.datasets.rows import PostRow, SplitCollector, gold_of
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write
from namepin.tools.jsonl import dump_line, read_lines, reason
from namepin.tools.types import Post


def read(root: Path, split: str) -> Dataset:
    """One split.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    path = split_file(root, f"{split}.jsonl")
    collector = SplitCollector("jsonl", split, root, fatal=True)
    if form := foreign_form(path):
        collector.problem("E131", str(path), form, fatal=True)
    else:
        for line in read_lines(path):
            try:
                row = line.parse()
            except ValueError as error:
                collector.problem("E131", line.where, reason(error), fatal=True)
            else:
                collector.add_row(row, path.parent, line.where)
    return collector.dataset(hashlib.sha256(path.read_bytes()).hexdigest())


def posts(root: Path, split: str) -> Iterator[tuple[str, Post]]:
    """A split's posts as a stream, without their gold.

    Raises:
        NamepinError: E130 when the folder or the split is missing, E131 at the first line that is not a valid post.
    """
    path = split_file(root, f"{split}.jsonl")
    return _posts(path)


def _posts(path: Path) -> Iterator[tuple[str, Post]]:
    if form := foreign_form(path):
        raise NamepinError("E131", form, where=str(path))
    for line in read_lines(path):
        try:
            yield line.where, gold_of(line.parse(), path.parent, line.where).post
        except ValueError as error:
            raise NamepinError("E131", reason(error), where=line.where, mend="fix the file") from error


def write(rows: Iterable[PostRow], target: Path, split: str, losses: Losses) -> None:
    """Write a split; the form loses nothing."""
    atomic_write(target / f"{split}.jsonl", map(dump_line, rows))
