"""The sandbox: synthetic data in the published layouts, with FMNERG's text and boxes and SMNER's masks."""

from dataclasses import replace
from pathlib import Path

from namepin.evals.datasets import fmnerg
from namepin.evals.datasets.gold import Dataset
from namepin.evals.datasets.smner import add_masks

posts = fmnerg.posts


def read(root: Path, split: str) -> Dataset:
    """One split: `txt_fine/SPLIT.txt`, `xml/`, `masks/`, `images/`.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    return add_masks(replace(fmnerg.read(root, split), name="sandbox", release="sandbox"), root / "masks")
