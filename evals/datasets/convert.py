"""Data sets from one form into another: CoNLL, JSONL, labelme, COCO, Label Studio.

The common form is the row of `evals/datasets/rows.py`, so each form needs one reader and one writer. Forms for regions
(labelme, COCO, Label Studio) hold the post in an extra key, `namepin`, and each region names its mention. So edits in
such a tool can be read back. Pictures are not copied; their paths stay relative to the folder. Data that a form cannot
hold is listed with its count.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from namepin.evals.datasets import READERS, conll_writer, jsonl
from namepin.evals.datasets.annotation_tools import coco, label_studio, labelme
from namepin.evals.datasets.gold import Problem
from namepin.evals.datasets.losses import Losses
from namepin.evals.datasets.rows import PostRow, row_of
from namepin.tools.errors import NamepinError


@dataclass(frozen=True, slots=True)
class Conversion:
    """The result of one conversion.

    Attributes:
        posts: number of posts written.
        problems: problems of the source, and data that the target cannot hold.
    """

    posts: int
    problems: tuple[Problem, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing was left out."""
        return all(problem.code.startswith("W") for problem in self.problems)


def convert(source: Path, name: str, split: str, target: Path, form: str) -> Conversion:
    """Write one split in another form.

    Args:
        source: the data set's folder.
        name: the data set's form, one of `READERS`.
        split: the split.
        target: the folder to write into, created if missing.
        form: the form to write, one of `WRITERS`.

    Raises:
        NamepinError: E130 to E139 for the source, E105 when the target would replace the source, E500 when the target
            cannot be written.
    """
    if source.resolve() == target.resolve() and form == _FORM_OF.get(name, "conll"):
        mend = "name another folder"
        raise NamepinError("E105", "the conversion would replace its source", where=str(target), mend=mend)
    data = READERS[name](source, split).usable()
    rows = [row_of(gold, source) for gold in data.posts]
    losses = Losses()
    try:
        target.mkdir(parents=True, exist_ok=True)
        WRITERS[form](rows, target, split, losses)
    except OSError as error:
        raise NamepinError("E500", f"cannot write into {str(target)!r}: {error.strerror}") from error
    problems = [problem for problem in data.problems if problem.code != "W130"]  # pictures are not copied
    return Conversion(len(rows), (*problems, *losses.problems(str(target))))


Writer = Callable[[Iterable[PostRow], Path, str, Losses], None]

WRITERS: Mapping[str, Writer] = MappingProxyType(
    {
        "conll": conll_writer.write,
        "jsonl": jsonl.write,
        "labelme": labelme.write,
        "coco": coco.write,
        "label-studio": label_studio.write,
    }
)
_FORM_OF = {"jsonl": "jsonl", "labelme": "labelme", "coco": "coco", "label-studio": "label-studio"}
"""Data set -> its form; all others are CoNLL."""
