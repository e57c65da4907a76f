"""One evaluation: loads a data set, runs every post through the graph, and reads recorded knowledge."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from namepin.evals.datasets import READERS
from namepin.evals.datasets.conll import split_file
from namepin.evals.datasets.fmnerg import knowledge_root
from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.predictions import Predictions, from_extractions
from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import read_rows
from namepin.tools.types import Extraction, Post

Predict = Callable[[Sequence[Post]], Iterable[Extraction]]
"""Runs posts under a profile, as `Namepin.batch` does: results in the order of the posts."""


def load_dataset(name: str, root: Path, split: str) -> Dataset:
    """Load a split that can be scored.

    Raises:
        NamepinError: E130 to E139, see docs/errors.md.
    """
    if name not in READERS:
        raise NamepinError(
            "E139", f"unknown data set {name!r}", where="--dataset", mend=f"use one of {', '.join(READERS)}"
        )
    return READERS[name](root, split).usable()


def predict_all(dataset: Dataset, predict: Predict, done: Callable[[Extraction], None] | None = None) -> Predictions:
    """Run every post through the graph; `done` is called after each."""

    def watched() -> Iterator[Extraction]:
        for extraction in predict([gold.post for gold in dataset.posts]):
            if done:
                done(extraction)
            yield extraction

    return from_extractions(watched(), dataset)


def knowledge_folder(root: Path, split: str, dataset: Dataset) -> Path:
    """The folder whose `knowledge/` a split takes: its own, or for FMNERG also that of the `gmner` folder beside it."""
    return knowledge_root(root, split) if dataset.name == "fmnerg" else root


def recorded_knowledge(root: Path, split: str, dataset: Dataset) -> dict[str, str]:
    """Post text -> recorded knowledge, from `knowledge/SPLIT.jsonl` (rows `id`, `model`, `knowledge`).

    Raises:
        NamepinError: E130 when the file is missing, E134 for an invalid row or a post without knowledge.
    """
    path = split_file(knowledge_folder(root, split, dataset), f"knowledge/{split}.jsonl")
    known = dict(read_rows(path, lambda row: (str(row["id"]), str(row["knowledge"])), "a row of recorded knowledge"))
    lacking = [gold.post.id for gold in dataset.posts if gold.post.id not in known]
    if lacking:
        raise NamepinError(
            "E134", f"{len(lacking)} posts have no recorded knowledge, such as {lacking[0]!r}", where=str(path)
        )
    return {gold.post.text: known[gold.post.id] for gold in dataset.posts}
