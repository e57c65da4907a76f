"""Any CoNLL text with one tag column and the usual names of types, such as the Broad Twitter Corpus.

`SPLIT.conll`, or another of `SUFFIXES`. Posts of a file without `IMGID:` lines are numbered `FILE-1`, `FILE-2`, ...
"""

from collections.abc import Iterator
from pathlib import Path

from namepin.evals.datasets.conll import read_dataset, split_file, stream_posts
from namepin.evals.datasets.gold import Dataset
from namepin.tools.labels import COARSE4, COARSE8_TO_4, FINE_TO_COARSE4
from namepin.tools.types import Post

SUFFIXES = (".conll", ".txt", ".tsv", ".bio", ".iob", ".iob2", ".bioes")

LABELS = {label: label for label in COARSE4} | dict(COARSE8_TO_4) | dict(FINE_TO_COARSE4)
LABELS |= dict.fromkeys(("GPE", "FAC", "geo-loc", "facility"), "LOC")
LABELS |= dict.fromkeys(("corporation", "group", "organisation", "NORP", "sportsteam"), "ORG")
LABELS |= dict.fromkeys(("musicartist",), "PER")
LABELS |= dict.fromkeys(("MISC", "creative-work", "WORK_OF_ART", "LAW", "movie", "tvshow"), "OTHER")
"""Names of CoNLL-2003, OntoNotes, BTC, WNUT-16 and WNUT-17, and ours; in any case."""


def read(root: Path, split: str) -> Dataset:
    """One split.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    path = _file(root, split)
    images = root / "images"
    return read_dataset("conll", split, path, root.resolve().name, {}, LABELS, head="optional", images=images)


def posts(root: Path, split: str) -> Iterator[tuple[str, Post]]:
    """A split's posts as a stream, without their gold; see `namepin.evals.datasets.conll.stream_posts`.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    return stream_posts(_file(root, split), head="optional", images=root / "images")


def splits(root: Path) -> list[str]:
    """The names of the files that end in `.conll`, without it."""
    return sorted(path.stem for path in root.glob("*.conll"))


def _file(root: Path, split: str) -> Path:
    return split_file(root, *(f"{split}{suffix}" for suffix in SUFFIXES))
