"""Twitter-FMNERG (Wang et al., ACM MM 2023): 8 coarse and 51 fine types. `txt_fine/SPLIT.txt`, `xml/`, `images/`."""

from collections.abc import Iterator
from pathlib import Path

from namepin.evals.datasets.conll import read_dataset, split_file, stream_posts
from namepin.evals.datasets.gold import Dataset
from namepin.tools.labels import ALIASES, COARSE8, FINE51
from namepin.tools.types import Post

LABELS = {label: label for label in COARSE8}
FINE = {label: label for label in FINE51} | dict(ALIASES)

RELEASES = {
    "b067446640d71ffad116e67c359f095f99c9d5ca2d0f2a1bc103909ebc8505e9": "Twitter-FMNERG train",
    "3ff31ebca3c858926ec6c98694820fda39c0f9718645174c00069ee5bcffab69": "Twitter-FMNERG dev",
    "362e7186631ef4e80af24d5f97062c42964eb0809e1abdf95464e60662fd583c": "Twitter-FMNERG test-300",
}
"""Text files by sha256. test-300: 300 posts of the authors' test split, in a folder of their own as its dev."""


def read(root: Path, split: str) -> Dataset:
    """One split.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    path = split_file(root, f"txt_fine/{split}.txt")
    return read_dataset(
        "fmnerg",
        split,
        path,
        "Twitter-FMNERG",
        RELEASES,
        LABELS,
        scheme="fmnerg8",
        fine=FINE,
        images=root / "images",
        xml=root / "xml",
    )


def posts(root: Path, split: str) -> Iterator[tuple[str, Post]]:
    """A split's posts as a stream, without their gold; see `namepin.evals.datasets.conll.stream_posts`.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    return stream_posts(split_file(root, f"txt_fine/{split}.txt"), 2, images=root / "images")


def knowledge_root(root: Path, split: str) -> Path:
    """The folder whose `knowledge/SPLIT.jsonl` belongs to a split: this one, or that of `gmner` beside it.

    FMNERG gives GMNER's posts finer types. What is recorded for GMNER serves it, if the split has the same posts.
    """
    theirs = root.parent / "gmner"
    texts = root / f"txt_fine/{split}.txt", theirs / f"txt/{split}.txt"
    if (root / "knowledge").is_dir() or not all(file.is_file() for file in texts):
        return root
    return theirs if _ids(texts[0]) == _ids(texts[1]) else root


def _ids(file: Path) -> list[str]:
    lines = file.read_text("utf-8-sig", errors="replace").split("\n")
    return [line.removeprefix("IMGID:").strip() for line in lines if line.startswith("IMGID:")]
