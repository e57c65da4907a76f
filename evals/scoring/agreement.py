"""Agreement of two annotators on regions (RiVEG section III-A): Fleiss' kappa, Dice, IoU.

The paper calls two annotations consistent when their IoU exceeds 0.5. It reports a Fleiss score of 0.82 and a Dice
coefficient of 0.85, without saying over which items. Here:

- regions: every annotator's masks of one name in one post are paired one to one, for the largest sum of IoUs.
- Dice and IoU: the mean over the paired regions, and over all regions with 0 for one that the other did not draw.
- kappa: an item is a region; its category is "drawn, here" or "not drawn". A pair of IoU > 0.5 is one item on which
  both say "drawn"; any other region is an item on which they differ; a name that both left without a region is an item
  on which both say "not drawn". Such names are known only where the posts' entities are: without them there is no
  kappa.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.optimize import linear_sum_assignment

from namepin.evals.datasets.gold import Dataset
from namepin.evals.datasets.masks import read_masks
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import mask_iou
from namepin.tools.jsonl import read_rows
from namepin.tools.types import Mask

CONSISTENT = 0.5

Regions = dict[str, list[Mask]]
"""Entity text -> its masks, in one post."""


@dataclass(frozen=True)
class Annotator:
    """One annotator's file or folder: post id -> regions, and what could not be read."""

    where: str
    posts: Mapping[str, Regions]
    problems: tuple[str, ...] = ()


class Overlap(BaseModel):
    """Means over regions, fractions."""

    model_config = ConfigDict(frozen=True)
    regions: int
    dice: float
    iou: float


class Agreement(BaseModel):
    """The agreement of two annotators.

    Attributes:
        posts: number of posts that both annotated.
        only: number of posts that only one of them annotated, by annotator.
        paired: means over pairs; regions of IoU 0 are not a pair.
        all: means over all regions, with 0 for a region without a partner.
        consistent: number of pairs of IoU > 0.5.
        kappa: Fleiss' kappa, see the module; None without the posts' entities, or where it is not defined.
        items: number of items of kappa.
        problems: files and shapes that could not be read.
    """

    model_config = ConfigDict(frozen=True)
    posts: int
    only: dict[str, list[str]]
    paired: Overlap
    all: Overlap
    consistent: int
    kappa: float | None
    items: int
    problems: list[str]


@dataclass
class _Tally:
    dice: list[float] = field(default_factory=list)
    iou: list[float] = field(default_factory=list)
    alone: int = 0
    votes: list[tuple[int, int]] = field(default_factory=list)
    """(drawn, not drawn) of each item."""


def agreement(first: Annotator, second: Annotator, entities: Dataset | None = None) -> Agreement:
    """Compare two annotators over the posts that both have.

    Raises:
        NamepinError: E139 when they have no common post.
    """
    shared = sorted(first.posts.keys() & second.posts.keys())
    if not shared:
        raise NamepinError(
            "E139", f"{first.where} and {second.where} have no post in common", mend="compare by post id"
        )
    names = {gold.post.id: {e.text for e in gold.entities} for gold in entities.posts} if entities else {}
    tally = _Tally()
    for post in shared:
        one, other = first.posts[post], second.posts[post]
        for name in sorted(one.keys() | other.keys() | names.get(post, set())):
            _count(one.get(name, []), other.get(name, []), tally)
    everything = len(tally.iou) + tally.alone
    return Agreement(
        posts=len(shared),
        only={
            a.where: sorted(a.posts.keys() - b.posts.keys())
            for a, b in ((first, second), (second, first))
            if a.posts.keys() - b.posts.keys()
        },
        paired=_overlap(tally, len(tally.iou)),
        all=_overlap(tally, everything),
        consistent=sum(iou > CONSISTENT for iou in tally.iou),
        kappa=fleiss_kappa(tally.votes) if entities else None,
        items=len(tally.votes),
        problems=[*first.problems, *second.problems],
    )


def _count(one: Sequence[Mask], other: Sequence[Mask], tally: _Tally) -> None:
    if not one and not other:
        tally.votes.append((0, 2))
        return
    table = np.array([[mask_iou(a, b) for b in other] for a in one]).reshape(len(one), len(other))
    pairs = [(i, j) for i, j in zip(*linear_sum_assignment(table, maximize=True), strict=True) if table[i, j] > 0]
    for i, j in pairs:
        iou = float(table[i, j])
        tally.iou.append(iou)
        tally.dice.append(2 * iou / (1 + iou))
        tally.votes += [(2, 0)] if iou > CONSISTENT else [(1, 1), (1, 1)]
    alone = len(one) + len(other) - 2 * len(pairs)
    tally.alone += alone
    tally.votes += [(1, 1)] * alone


def _overlap(tally: _Tally, regions: int) -> Overlap:
    number = regions or 1
    return Overlap(regions=regions, dice=sum(tally.dice) / number, iou=sum(tally.iou) / number)


def fleiss_kappa(votes: Sequence[Sequence[int]]) -> float | None:
    """Fleiss (1971): agreement beyond chance. None where chance agreement is 1, or there are no items.

    Args:
        votes: for each item, the number of raters per category; each item has the same number of raters, two or more.

    Raises:
        ValueError: when the numbers of raters differ or are below two.
    """
    if not votes:
        return None
    table = np.asarray(votes, dtype=float)
    raters = table.sum(axis=1)
    if (raters != raters[0]).any() or raters[0] < 2:
        raise ValueError("every item needs the same number of raters, two or more")
    observed = float(((table**2).sum(axis=1) - raters).sum() / (raters * (raters - 1)).sum())
    chance = float(((table.sum(axis=0) / table.sum()) ** 2).sum())
    return None if chance > 1 - 1e-12 else (observed - chance) / (1 - chance)


def read_annotator(path: Path) -> Annotator:
    """A folder of labelme files `ID.json`, or a JSONL of predictions or gold rows with masks.

    Raises:
        NamepinError: E130 when there are no annotations, E134 for an invalid row.
    """
    if path.is_dir():
        files = sorted(path.glob("*.json"))
        found = {file.stem: read_masks(file) for file in files}
        problems = tuple(f"{p.where}: {p.what}" for _, some in found.values() for p in some)
        annotator = Annotator(str(path), {post: regions for post, (regions, _) in found.items()}, problems)
    elif path.is_file():
        mend = 'a row is {"id", "text", "entities": [{"start", "end", "mask" or "masks"}]}'
        annotator = Annotator(str(path), dict(read_rows(path, _row, "annotations", mend)))
    else:
        raise NamepinError(
            "E130", "no annotations here", where=str(path), mend="give a folder of labelme files or a JSONL"
        )
    if not annotator.posts:
        raise NamepinError("E130", "the annotations are empty", where=str(path), mend="give files named ID.json")
    return annotator


def _row(row: dict[str, Any]) -> tuple[str, Regions]:
    regions: Regions = {}
    for entity in row["entities"]:
        name = entity.get("text") or row["text"][entity["start"] : entity["end"]]
        masks: Iterable[Any] = entity.get("masks") or [m for m in [entity.get("mask")] if m]
        regions.setdefault(str(name), []).extend(Mask.model_validate(mask) for mask in masks)
    return str(row["id"]), {name: masks for name, masks in regions.items() if masks}
