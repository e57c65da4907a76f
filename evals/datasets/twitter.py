"""Twitter-2015 (Zhang et al., 2018) and Twitter-2017 (Yu et al., 2020): 4 types, no boxes. `SPLIT.txt`, `images/`."""

from collections.abc import Iterator
from pathlib import Path

from namepin.evals.datasets.conll import read_dataset, split_file, stream_posts
from namepin.evals.datasets.gmner import LABELS
from namepin.evals.datasets.gold import Dataset
from namepin.tools.types import Post


def read(root: Path, split: str) -> Dataset:
    """One split; `dev` and `valid` name the same one.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    return read_dataset("twitter", split, _file(root, split), "Twitter-2015/2017", {}, LABELS, images=root / "images")


def posts(root: Path, split: str) -> Iterator[tuple[str, Post]]:
    """A split's posts as a stream, without their gold; see `namepin.evals.datasets.conll.stream_posts`.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    return stream_posts(_file(root, split), images=root / "images")


def _file(root: Path, split: str) -> Path:
    names = ("valid", "dev") if split in ("valid", "dev") else (split,)
    return split_file(root, *(f"{name}.txt" for name in names))
