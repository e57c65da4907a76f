"""Twitter-GMNER (Yu et al., ACL 2023): 4 types and boxes. `txt/SPLIT.txt`, `xml/ID.xml`, `images/ID.jpg`."""

from collections.abc import Iterator
from pathlib import Path

from namepin.evals.datasets.conll import read_dataset, split_file, stream_posts
from namepin.evals.datasets.gold import Dataset
from namepin.tools.labels import COARSE4
from namepin.tools.types import Post

LABELS = {label: label for label in COARSE4} | {"MISC": "OTHER"}

RELEASES = {
    "72770413f5a80b75c6d8b59d985048bc8b26c489b7b8a09c4cc7ed2b97f3cc41": "Twitter-GMNER v2.0 train",
    "07435237d7bfc1f2dd66f564fecab9637ff0bb9d08025d722859dbb2bd3f8532": "Twitter-GMNER v2.0 dev",
}
"""Text files by sha256: `Twitter10000` (v1) and `Twitter10000_v2.0` differ in annotation, not in layout."""


def read(root: Path, split: str) -> Dataset:
    """One split.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    path = split_file(root, f"txt/{split}.txt")
    return read_dataset(
        "gmner", split, path, "Twitter-GMNER", RELEASES, LABELS, images=root / "images", xml=root / "xml"
    )


def posts(root: Path, split: str) -> Iterator[tuple[str, Post]]:
    """A split's posts as a stream, without their gold; see `namepin.evals.datasets.conll.stream_posts`.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    return stream_posts(split_file(root, f"txt/{split}.txt"), images=root / "images")
