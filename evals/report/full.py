"""The whole report on a run: scores, intervals, causes of loss, and a comparison with a second system."""

from collections.abc import Sequence

from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.attribution import Attribution, attribute, outcomes
from namepin.evals.scoring.curves import TypeConfusion, mistaken_types
from namepin.evals.scoring.evaluate import TASKS, Report, Score, count_posts, evaluate
from namepin.evals.scoring.predictions import Predictions
from namepin.evals.scoring.significance import Comparison, Interval, Spread, compare, f1_interval, over_seeds


class FullReport(Report):
    """A `Report` with its explanation.

    Attributes:
        intervals: the 95% bootstrap interval of F1, by task, for the tasks that were evaluated.
        attribution: causes of loss, by the canonical protocol.
        comparison: task by task against a second system; None without one.
        trained_on: number of scored posts that the system was trained on; None where it is not known.
        mistaken: the fine types that were taken for others; empty without gold or predicted fine types.
    """

    intervals: dict[str, Interval]
    attribution: Attribution
    comparison: list[Comparison] | None
    mistaken: list[TypeConfusion]
    trained_on: int | None = None


def score_of(report: Report, task: str) -> Score | None:
    """A task's score by its name in `TASKS`."""
    group, _, name = task.rpartition(".")
    if group:
        nested: dict[str, Score | None] = getattr(report, group) or {}
        return nested.get(name)
    score: Score | None = getattr(report, task)
    return score


def full_report(
    dataset: Dataset,
    predictions: Predictions,
    *,
    protocol: str = "canonical",
    iou: float = 0.5,
    against: Predictions | None = None,
) -> FullReport:
    """Score, and explain the score.

    Args:
        dataset: the gold.
        predictions: the system's predictions.
        protocol: one of `PROTOCOLS`; causes of loss always use the canonical one.
        iou: the IoU threshold.
        against: predictions of a second system; the comparison is its gain over the first.
    """
    report = evaluate(dataset, predictions, protocol=protocol, iou=iou)
    scored = [task for task in TASKS if score_of(report, task) is not None]
    other = evaluate(dataset, against, protocol=protocol, iou=iou) if against else None
    both = [task for task in scored if other and score_of(other, task) is not None]
    return FullReport(
        **dict(report),
        intervals={task: f1_interval(count_posts(dataset, predictions, task, protocol, iou)) for task in scored},
        attribution=attribute(dataset, predictions, iou),
        comparison=[compare(dataset, predictions, against, task, protocol=protocol, iou=iou) for task in both]
        if against
        else None,
        mistaken=mistaken_types(outcomes(dataset, predictions, iou)) if "fine.mner" in scored else [],
    )


def over_runs(
    dataset: Dataset, runs: Sequence[Predictions], *, protocol: str = "canonical", iou: float = 0.5
) -> dict[str, Spread]:
    """F1 over runs that differ only in the seed, for each task that all of them evaluate."""
    reports = [evaluate(dataset, run, protocol=protocol, iou=iou) for run in runs]
    scores = {task: [score for report in reports if (score := score_of(report, task))] for task in TASKS}
    return {task: over_seeds([s.f1 for s in found]) for task, found in scores.items() if len(found) == len(runs)}
