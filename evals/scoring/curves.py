"""The curves of a report: calibration, and scores over thresholds."""

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.attribution import Outcome
from namepin.evals.scoring.evaluate import TASKS, cases, count_posts, total
from namepin.evals.scoring.predicted import Predicted, label_in
from namepin.evals.scoring.predictions import Predictions
from namepin.evals.scoring.protocols import best_iou
from namepin.tools.labels import FINE_TO_COARSE4

BINS = 10
IOUS = tuple(step / 20 for step in range(1, 20))


class Bin(BaseModel):
    """Found entities whose confidence (or entropy) lies between two bounds."""

    model_config = ConfigDict(frozen=True)
    low: float
    high: float
    mean: float
    accuracy: float
    count: int


class Calibration(BaseModel):
    """Type accuracy over entities whose span is right, by the tagger's confidence and by its entropy.

    `error` is the expected calibration error: the mean gap between confidence and accuracy, weighted by bin size.
    """

    model_config = ConfigDict(frozen=True)
    bins: list[Bin]
    error: float
    by_entropy: list[Bin]


def calibration(dataset: Dataset, found: Sequence[Outcome]) -> Calibration | None:
    """Reliability of the finest type that is annotated; None when the predictions carry no scores."""
    sure, torn = [], []
    for outcome in found:
        p = outcome.predicted
        if p is None or not p.scores:
            continue
        right = (
            p.fine == outcome.entity.fine if dataset.has_fine else label_in(dataset.scheme, p) == outcome.entity.label
        )
        sure.append((_confidence(p, dataset.has_fine), right))
        if p.entropy is not None:
            torn.append((p.entropy, right))
    if not sure:
        return None
    bins = _bins(sure, [i / BINS for i in range(BINS + 1)])
    error = sum(b.count * abs(b.mean - b.accuracy) for b in bins) / len(sure)
    top = max((entropy for entropy, _ in torn), default=0.0)
    return Calibration(bins=bins, error=error, by_entropy=_bins(torn, [top * i / BINS for i in range(BINS + 1)]))


def _confidence(predicted: Predicted, fine: bool) -> float:
    """The probability of the predicted type: of its fine type, or of all fine types of its coarse one together."""
    if fine:
        return predicted.scores.get(predicted.fine or predicted.label, 0.0)
    return sum(p for name, p in predicted.scores.items() if FINE_TO_COARSE4.get(name, name) == predicted.label)


def _bins(pairs: Sequence[tuple[float, bool]], bounds: Sequence[float]) -> list[Bin]:
    """The non-empty bins; the last one includes its upper bound."""
    bins = []
    for low, high in zip(bounds, bounds[1:], strict=False):
        inside = [(x, right) for x, right in pairs if low <= x < high or (high == bounds[-1] == x)]
        if inside:
            mean = sum(x for x, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            bins.append(Bin(low=low, high=high, mean=mean, accuracy=accuracy, count=len(inside)))
    return bins


def confusion(dataset: Dataset, found: Sequence[Outcome]) -> dict[str, dict[str, int]]:
    """Gold type -> predicted type -> count, over entities whose span is right, in the data set's own scheme."""
    table: dict[str, Counter[str]] = {}
    for outcome in found:
        if outcome.predicted:
            predicted_type = label_in(dataset.scheme, outcome.predicted) or "?"
            table.setdefault(outcome.entity.label, Counter())[predicted_type] += 1
    return {gold: dict(counts) for gold, counts in table.items()}


class TypeConfusion(BaseModel):
    """A fine type that was taken for another one: `count` of the `of` mentions whose span is right."""

    model_config = ConfigDict(frozen=True)
    gold: str
    said: str
    count: int
    of: int


def mistaken_types(found: Sequence[Outcome]) -> list[TypeConfusion]:
    """Every pair of a gold fine type and another one that was said of a right span, the most frequent pair first."""
    pairs: Counter[tuple[str, str]] = Counter()
    for outcome in found:
        if outcome.predicted and outcome.entity.fine:
            pairs[outcome.entity.fine, label_in("fmnerg51", outcome.predicted) or "?"] += 1
    of = Counter({gold: 0 for gold, _ in pairs})
    for (gold, _), count in pairs.items():
        of[gold] += count
    return [
        TypeConfusion(gold=gold, said=said, count=count, of=of[gold])
        for (gold, said), count in sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0]))
        if gold != said
    ]


def iou_curve(dataset: Dataset, predictions: Predictions, task: str) -> list[tuple[float, float]]:
    """(threshold, F1) of a task with regions (RiVEG, Figure 9)."""
    return [(iou, total(count_posts(dataset, predictions, task, iou=iou)).f1) for iou in IOUS]


def match_curve(dataset: Dataset, predictions: Predictions, iou: float = 0.5) -> list[tuple[float, float, float]]:
    """(match score, precision, recall) of grounding, from the highest match score down.

    It covers the gold entities in the picture. A prediction is right when its span is right and its box reaches the IoU
    threshold.
    """
    claims, gold = [], 0
    for post, case in zip(dataset.posts, cases(dataset, predictions, TASKS["eeg"]), strict=True):
        golden = {item.span: item for item in case.gold if item.groundable}
        gold += len(golden)
        for p, item in zip(predictions.entities.get(post.post.id, ()), case.predicted, strict=True):
            if item.groundable and p.match_score is not None:
                hit = item.span in golden and best_iou(item, golden[item.span]) >= iou
                claims.append((p.match_score, hit))
    curve, hits = [], 0
    for number, (score, hit) in enumerate(sorted(claims, reverse=True), 1):
        hits += hit
        curve.append((score, hits / number, hits / gold if gold else 0.0))
    return curve
