"""Twitter-2015 (Zhang et al., 2018) and Twitter-2017 (Yu et al., 2020): 4 types, no boxes. `SPLIT.txt`, `images/`."""

from pathlib import Path

from evals.datasets.conll import read_dataset, split_file
from evals.datasets.gmner import LABELS
from evals.gold import Dataset


def read(root: Path, split: str) -> Dataset:
    """One split; `dev` and `valid` name the same one.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    names = ("valid", "dev") if split in ("valid", "dev") else (split,)
    path = split_file(root, *(f"{name}.txt" for name in names))
    return read_dataset("twitter", split, path, "Twitter-2015/2017", {}, LABELS, images=root / "images")
