"""The entropy gate in numbers (GEM, Figure 5): accuracy of tagger, best K types and reranker, by entropy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.attribution import Outcome, outcomes
from namepin.evals.scoring.curves import calibration
from namepin.evals.scoring.predicted import Predicted, label_in
from namepin.evals.scoring.predictions import Predictions
from namepin.tools.labels import ALIASES, COARSE4, FINE_TO_COARSE4

BOUNDS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 4.0)
"""Bins in nats; the last ends above the entropy of 51 equal shares (3.93)."""


class GateBin(BaseModel):
    """Entities whose span is right and whose entropy lies in [low, high); accuracies of the finest annotated type.

    `top` is the share of entities whose gold type is among the tagger's K best. `reranker` is the accuracy on the
    `reranked` entities only, and `tagger_on_those` the tagger's accuracy on the same entities.
    """

    model_config = ConfigDict(frozen=True)
    low: float
    high: float
    count: int
    tagger: float
    top: float
    reranked: int
    reranker: float | None
    tagger_on_those: float | None


class GateReport(BaseModel):
    """Figure 5 as numbers; `error` is the tagger's expected calibration error over ten bins of confidence."""

    model_config = ConfigDict(frozen=True)
    k: int
    entities: int
    error: float
    bins: list[GateBin]


@dataclass(frozen=True)
class _Judged:
    entropy: float
    tagger: bool
    top: bool
    final: bool
    reranked: bool


def gate_report(dataset: Dataset, predictions: Predictions, k: int = 5) -> GateReport | None:
    """The gate's report; None where no entity with a right span has scores and an entropy."""
    found = outcomes(dataset, predictions)
    judged = [_judge(dataset, outcome, k) for outcome in found if _usable(outcome.predicted)]
    calibrated = calibration(dataset, [_by_the_tagger(outcome) for outcome in found])
    if not judged or calibrated is None:
        return None
    bins = []
    for low, high in zip(BOUNDS, BOUNDS[1:], strict=False):
        inside = [one for one in judged if low <= one.entropy < high]
        if inside:
            again = [one for one in inside if one.reranked]
            bins.append(
                GateBin(
                    low=low,
                    high=high,
                    count=len(inside),
                    tagger=_share([one.tagger for one in inside]),
                    top=_share([one.top for one in inside]),
                    reranked=len(again),
                    reranker=_share([one.final for one in again]) if again else None,
                    tagger_on_those=_share([one.tagger for one in again]) if again else None,
                )
            )
    return GateReport(k=k, entities=len(judged), error=calibrated.error, bins=bins)


def _usable(predicted: Predicted | None) -> bool:
    return predicted is not None and bool(predicted.scores) and predicted.entropy is not None


def _judge(dataset: Dataset, outcome: Outcome, k: int) -> _Judged:
    prediction = outcome.predicted
    assert prediction is not None and prediction.entropy is not None  # the caller has checked `_usable`
    tagged = _by_the_tagger(outcome).predicted
    assert tagged is not None
    best = _rank(prediction.scores)[:k]
    names = {name if dataset.has_fine else label_in(dataset.scheme, _with_type(prediction, name)) for name in best}
    gold = outcome.entity.fine if dataset.has_fine else outcome.entity.label
    return _Judged(
        prediction.entropy,
        _right(dataset, outcome, tagged),
        gold in names,
        _right(dataset, outcome, prediction),
        prediction.reranked,
    )


def _right(dataset: Dataset, outcome: Outcome, prediction: Predicted) -> bool:
    if dataset.has_fine:
        return prediction.fine == outcome.entity.fine
    return label_in(dataset.scheme, prediction) == outcome.entity.label


def _by_the_tagger(outcome: Outcome) -> Outcome:
    """The outcome with the tagger's type, from before reranking."""
    prediction = outcome.predicted
    if prediction is None or not prediction.reranked or not prediction.scores:
        return outcome
    return replace(outcome, predicted=_with_type(prediction, _rank(prediction.scores)[0]))


def _rank(scores: Mapping[str, float]) -> Sequence[str]:
    return sorted(scores, key=lambda name: (-scores[name], name))


def _with_type(prediction: Predicted, name: str) -> Predicted:
    if name in COARSE4:
        return replace(prediction, label=name, fine=None)
    fine = ALIASES.get(name, name)
    return replace(prediction, label=FINE_TO_COARSE4[fine], fine=fine)


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits)
