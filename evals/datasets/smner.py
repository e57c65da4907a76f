"""Twitter-SMNER (Li et al., RiVEG): Twitter-GMNER with a mask for every groundable entity, `masks/ID.json`."""

from dataclasses import replace
from pathlib import Path

from namepin.evals.datasets import gmner
from namepin.evals.datasets.gold import Dataset
from namepin.evals.datasets.masks import with_masks

posts = gmner.posts


def read(root: Path, split: str) -> Dataset:
    """One split; without a `masks/` folder the mask tasks are not evaluated.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    return add_masks(replace(gmner.read(root, split), name="smner"), root / "masks")


def add_masks(data: Dataset, folder: Path) -> Dataset:
    """The data with the masks of a labelme folder; unchanged without such a folder."""
    if not folder.is_dir():
        return data
    posts, problems = [], list(data.problems)
    for gold in data.posts:
        gold, found = with_masks(gold, folder)
        posts.append(gold)
        problems += found
    return replace(data, posts=tuple(posts), problems=tuple(problems), has_masks=True)
