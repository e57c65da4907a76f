"""Counting protocols for one post's predictions: the canonical one, and those of three groups of authors.

All take the same `Case`. The authors' rules follow their released scripts exactly, for comparison with their published
numbers. Each quirk is named where it occurs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from namepin.evals.datasets.gold import Span
from namepin.tools.geometry import Rectangle, box_iou, mask_iou
from namepin.tools.types import Mask

BoxOrMask = Rectangle | Mask


@dataclass(frozen=True, slots=True)
class Item:
    """An entity in one task.

    Attributes:
        span: character offsets.
        text: its words.
        type: its type in the finest scheme of the task, also where the task ignores types.
        label: the type that must be right; None where the task ignores types.
        groundable: whether it is in the picture; None where the task ignores the picture.
        regions: boxes or masks: all gold regions, or at most one predicted region.
    """

    span: Span
    text: str
    type: str = ""
    label: str | None = None
    groundable: bool | None = None
    regions: tuple[BoxOrMask, ...] = ()


@dataclass(frozen=True, slots=True)
class Case:
    """One post in one task. `proposals` are the candidate boxes of a system that chooses among them."""

    gold: Sequence[Item]
    predicted: Sequence[Item]
    proposals: Sequence[Rectangle] | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """Numbers of correct, predicted and gold entities; counts of posts add up."""

    correct: int = 0
    predicted: int = 0
    gold: int = 0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.correct + other.correct, self.predicted + other.predicted, self.gold + other.gold)

    @property
    def precision(self) -> float:
        """Correct / predicted; 0 without predictions."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Correct / gold; 0 without gold."""
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 when both are 0, as in seqeval and conlleval."""
        total = self.predicted + self.gold
        return 2 * self.correct / total if total else 0.0


Protocol = Callable[[Case, float], Count]
"""`(case, iou threshold) -> count`."""


def region_overlap(a: BoxOrMask, b: BoxOrMask) -> float:
    """IoU of two boxes or of two masks."""
    if isinstance(a, Mask) and isinstance(b, Mask):
        return mask_iou(a, b)
    if isinstance(a, tuple) and isinstance(b, tuple):
        return box_iou(a, b)
    return 0.0


def best_iou(predicted: Item, gold: Item) -> float:
    """IoU with the best gold region; 0 without a region."""
    return max((region_overlap(p, g) for p in predicted.regions for g in gold.regions), default=0.0)


def region_right(predicted: Item, gold: Item, iou: float) -> bool:
    """IoU >= threshold with any gold region. "Not in the picture" is right only when gold and prediction agree."""
    if predicted.groundable is None:
        return True
    if not predicted.groundable or not gold.groundable:
        return predicted.groundable == gold.groundable
    return best_iou(predicted, gold) >= iou


def canonical(case: Case, iou: float) -> Count:
    """Identity is the span: a set intersection over the parts of (span, type, region) that the task uses.

    Predictions that are equal in these parts count once. Different predictions at one span all count, and one of them
    can be right.
    """
    gold = {(item.span, item.label): item for item in case.gold}
    predicted = {(item.span, item.label, item.groundable, item.regions): item for item in case.predicted}.values()
    hits = {
        (item.span, item.label)
        for item in predicted
        if (match := gold.get((item.span, item.label))) is not None and region_right(item, match, iou)
    }
    return Count(len(hits), len(predicted), len(gold))


def riveg(case: Case, iou: float) -> Count:
    """RiVEG's `statistic.py`: identity is the words and the type; the first match uses up a gold entity.

    Quirks: positions do not matter; duplicates all count, on both sides; matching is greedy in the order of the
    predictions and of the gold; IoU >= threshold; where types are ignored (EEG), words are read up to the first "(".
    The script has no text-only task. The paper reports AdaSeq's span F1 for it, which is the canonical one.
    """
    if all(item.groundable is None for item in (*case.gold, *case.predicted)):
        return canonical(case, iou)

    def identity(item: Item) -> tuple[str, str | None]:
        return (item.text.split("(")[0], None) if item.label is None else (item.text, item.label)

    left = list(case.gold)
    for item in case.predicted:
        for gold in left:
            if identity(item) == identity(gold) and region_right(item, gold, iou):
                left.remove(gold)
                break
    return Count(len(case.gold) - len(left), len(case.predicted), len(case.gold))


def hindex(case: Case, iou: float) -> Count:
    """H-index's `metrics.py`: identity is the token span, a region is an index among the detector's proposals.

    Quirks: of several predictions at one span only the last counts; a gold region is every proposal with IoU strictly
    above the threshold. An entity whose boxes the detector missed (no proposal reaches the threshold) matches nothing,
    not even "not in the picture".

    Without proposals in the predictions' rows (`regions`), the predicted box stands for its proposal, and a miss cannot
    be detected.
    """
    predicted = {item.span: item for item in case.predicted}
    gold = {item.span: item for item in case.gold}
    correct = sum(
        item.label == gold[span].label and _index_right(item, gold[span], iou, case.proposals)
        for span, item in predicted.items()
        if span in gold
    )
    return Count(correct, len(predicted), len(gold))


def _index_right(predicted: Item, gold: Item, iou: float, proposals: Sequence[Rectangle] | None) -> bool:
    """Whether the chosen proposal is among the gold ones; see `hindex`."""
    if predicted.groundable is None:
        return True
    if gold.groundable and proposals is not None:
        if not any(region_overlap(box, region) >= iou for region in gold.regions for box in proposals):
            return False
        chosen = _nearest(predicted, proposals)
        return chosen is not None and any(region_overlap(chosen, region) > iou for region in gold.regions)
    if not predicted.groundable or not gold.groundable:
        return predicted.groundable == gold.groundable
    return best_iou(predicted, gold) > iou


def _nearest(predicted: Item, proposals: Sequence[Rectangle]) -> Rectangle | None:
    """The proposal nearest to a predicted box, since boxes are rounded."""
    if not predicted.groundable or not predicted.regions or not proposals:
        return None
    return max(proposals, key=lambda box: region_overlap(predicted.regions[0], box))


def tiger(case: Case, iou: float) -> Count:
    """TIGER's `more_eval.py`: entities are the keys "words type in-the-picture" of a dict.

    Quirks: duplicates collapse, gold ones too, and the last one's region stays; "not in the picture" is detected by the
        substring "False" of the key, which may also be in the words; IoU > threshold, and a gold entity that the
    detector missed cannot be matched. Where types are ignored (EEG), the keys that are counted still hold the type, a
    prediction matches any gold entity with its words, and none is used up.
    """
    if all(item.label is None and item.groundable is None for item in (*case.gold, *case.predicted)):
        return canonical(case, iou)
    gold, predicted = ({_tiger_key(item): item for item in items} for items in (case.gold, case.predicted))
    if all(item.label is None for item in case.gold):
        correct = sum(
            any(
                _index_right(item, other, iou, case.proposals) if item.groundable else "False" in key
                for key, other in gold.items()
                if other.text == item.text
            )
            for item in predicted.values()
        )
    else:
        correct = sum(
            "False" in key or _index_right(item, gold[key], iou, case.proposals)
            for key, item in predicted.items()
            if key in gold
        )
    return Count(correct, len(predicted), len(gold))


def _tiger_key(item: Item) -> str:
    words = [item.text, item.type, None if item.groundable is None else str(item.groundable)]
    return " ".join(word for word in words if word is not None)


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {"canonical": canonical, "riveg": riveg, "hindex": hindex, "tiger": tiger}
)
