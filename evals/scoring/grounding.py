"""Scores of the visual half: groundability, and the fit of the boxes."""

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.protocols import Case, Count, Item, best_iou, region_overlap

TOP_N = (10, 15, 20)
"""The numbers of a detector's proposals in RiVEG's Table II."""


class Groundability(BaseModel):
    """Groundability over the entities whose span is right: the confusion matrix, and scores derived from it."""

    model_config = ConfigDict(frozen=True)
    accuracy: float
    precision: float
    recall: float
    f1: float
    both: int
    predicted_only: int
    gold_only: int
    neither: int


class Fit(BaseModel):
    """The fit of boxes, over gold entities in the picture whose span was found; a missing box counts as IoU 0."""

    model_config = ConfigDict(frozen=True)
    entities: int
    precision_at_iou: float
    mean_iou: float


class Regions(Fit):
    """The fit over all entities, and details.

    Attributes:
        small: the fit over only the visually fine-grained entities (gold area below 1/50 of the picture; GEM, Table 2).
        top_n: N -> the share of all gold entities in the picture that one of a detector's first N proposals fits. It is
            the upper bound of a system that chooses among them (RiVEG, Table II). None without proposals.
    """

    small: Fit
    top_n: dict[int, float] | None


Pair = tuple[Item, Item, bool]
"""(predicted, gold, whether the gold entity is small) of an entity whose span is right."""


def pair_entities(dataset: Dataset, every: Sequence[Case]) -> list[Pair]:
    """The entities whose span is right, from the cases of EEG; among repeated predictions, the last."""
    pairs = []
    for post, case in zip(dataset.posts, every, strict=True):
        predicted = {item.span: item for item in case.predicted}
        for entity, item in zip(post.entities, case.gold, strict=True):
            if item.span in predicted:
                pairs.append((predicted[item.span], item, post.is_small(entity)))
    return pairs


def groundability(pairs: Sequence[Pair]) -> Groundability:
    """See `Groundability`."""
    confusion = Counter((predicted.groundable, gold.groundable) for predicted, gold, _ in pairs)
    both, predicted_only = confusion[True, True], confusion[True, False]
    gold_only, neither = confusion[False, True], confusion[False, False]
    count = Count(both, both + predicted_only, both + gold_only)
    return Groundability(
        accuracy=(both + neither) / confusion.total() if confusion else 0.0,
        precision=count.precision,
        recall=count.recall,
        f1=count.f1,
        both=both,
        predicted_only=predicted_only,
        gold_only=gold_only,
        neither=neither,
    )


def regions(pairs: Sequence[Pair], every: Sequence[Case], iou: float) -> Regions:
    """See `Regions`."""
    overlaps = [(best_iou(predicted, gold), small) for predicted, gold, small in pairs if gold.groundable]
    everything = _fit([overlap for overlap, _ in overlaps], iou)
    small = _fit([overlap for overlap, is_small in overlaps if is_small], iou)
    return Regions(**dict(everything), small=small, top_n=_top_n(every, iou))


def _fit(overlaps: Sequence[float], iou: float) -> Fit:
    number = len(overlaps) or 1
    reached = sum(overlap >= iou for overlap in overlaps)
    return Fit(entities=len(overlaps), precision_at_iou=reached / number, mean_iou=sum(overlaps) / number)


def _top_n(every: Sequence[Case], iou: float) -> dict[int, float] | None:
    if all(case.proposals is None for case in every):
        return None
    golden = [(item, case.proposals or ()) for case in every for item in case.gold if item.groundable]
    return {
        n: sum(any(region_overlap(box, r) >= iou for r in item.regions for box in boxes[:n]) for item, boxes in golden)
        / (len(golden) or 1)
        for n in TOP_N
    }
