"""WNUT-17 (Derczynski et al., 2017), CC BY 4.0: emerging entities, its six types mapped to the 4; text only."""

from collections.abc import Iterator
from pathlib import Path

from namepin.evals.datasets.conll import read_dataset, split_file, stream_posts
from namepin.evals.datasets.gold import Dataset
from namepin.tools.types import Post

FILES = {"train": "wnut17train.conll", "dev": "emerging.dev.conll", "test": "emerging.test.annotated"}

LABELS = {
    "person": "PER",
    "location": "LOC",
    "corporation": "ORG",
    "group": "ORG",
    "product": "OTHER",
    "creative-work": "OTHER",
}


def read(root: Path, split: str) -> Dataset:
    """One split; posts are numbered `FILE-1`, `FILE-2`, ..., since the release has no ids.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    path = split_file(root, FILES.get(split, f"{split}.conll"))
    return read_dataset("wnut17", split, path, "WNUT-17", {}, LABELS, head="none")


def posts(root: Path, split: str) -> Iterator[tuple[str, Post]]:
    """A split's posts as a stream, without their gold; see `namepin.evals.datasets.conll.stream_posts`.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    return stream_posts(split_file(root, FILES.get(split, f"{split}.conll")), head="none")
