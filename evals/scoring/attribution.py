"""Finds the step that lost each gold entity, and what repairing each step would give.

The steps stand in the order of the graph, and the first that fails is the cause: span, type, fine type, groundability
("is it in the picture?"), region (the box), mask.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost
from namepin.evals.scoring.evaluate import count_posts, total
from namepin.evals.scoring.predicted import Predicted, label_in
from namepin.evals.scoring.predictions import Predictions
from namepin.evals.scoring.protocols import Count, region_overlap

Cause = Literal["right", "span", "type", "fine", "groundability", "region", "mask"]
STEPS: tuple[Cause, ...] = ("span", "type", "fine", "groundability", "region", "mask")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome for one gold entity; `predicted` is the prediction at its span with the most right steps."""

    post: GoldPost
    entity: GoldEntity
    predicted: Predicted | None
    cause: Cause


class Repair(BaseModel):
    """F1 if a step made no mistakes: `alone`, or with all later steps repaired as well.

    A repaired span is an upper bound: a missed entity counts as right in all steps, and extra predictions are removed.
    """

    model_config = ConfigDict(frozen=True)
    alone: float
    with_later: float


class Attribution(BaseModel):
    """Causes over a data set.

    Attributes:
        steps: the steps that can be judged, in order; without gold boxes there is no groundability.
        causes: number of gold entities by cause; they sum to all gold entities.
        extra: number of predictions at spans that are not entities, and of further predictions at a span.
        task: the task that needs all of `steps`.
        f1: its F1.
        repairs: F1 after repairing each step.
    """

    model_config = ConfigDict(frozen=True)
    steps: list[Cause]
    causes: dict[Cause, int]
    extra: int
    task: str
    f1: float
    repairs: dict[Cause, Repair]


def judged_steps(dataset: Dataset, predictions: Predictions) -> list[Cause]:
    """The steps that have gold and that the predictions answer."""
    visual = dataset.has_boxes and predictions.visual
    masks = visual and dataset.has_masks and predictions.with_masks
    there = {
        "span": True,
        "type": dataset.scheme != "fmnerg8" or predictions.coarse8,
        "fine": dataset.has_fine and predictions.fine,
        "groundability": visual,
        "region": visual,
        "mask": masks,
    }
    return [step for step in STEPS if there[step]]


def judged_task(dataset: Dataset, predictions: Predictions) -> str:
    """The task that needs all `judged_steps`, by its name in `namepin.evals.scoring.evaluate.TASKS`."""
    steps = judged_steps(dataset, predictions)
    if "type" not in steps:
        return "eeg" if "region" in steps else "span"
    name = "smner" if "mask" in steps else "gmner" if "region" in steps else "mner"
    return f"fine.{name}" if "fine" in steps else name


def outcomes(dataset: Dataset, predictions: Predictions, iou: float = 0.5) -> list[Outcome]:
    """The outcome for every gold entity, in the data set's order."""
    steps = judged_steps(dataset, predictions)
    found = []
    for gold in dataset.posts:
        at_span: dict[tuple[int, int], list[Predicted]] = {}
        for predicted in predictions.entities.get(gold.post.id, ()):
            at_span.setdefault(predicted.span, []).append(predicted)
        for entity in gold.entities:
            judged = [(_failures(dataset, entity, p, iou, steps), p) for p in at_span.get(entity.span, [])]
            if not judged:
                found.append(Outcome(gold, entity, None, "span"))
                continue
            failures, predicted = max(judged, key=lambda pair: _progress(pair[0]))
            found.append(Outcome(gold, entity, predicted, failures[0] if failures else "right"))
    return found


def _progress(failures: Sequence[Cause]) -> int:
    """The number of right steps before the first failure."""
    return STEPS.index(failures[0]) if failures else len(STEPS)


def _failures(
    dataset: Dataset, entity: GoldEntity, predicted: Predicted, iou: float, steps: Sequence[Cause]
) -> list[Cause]:
    """Every step that went wrong for an entity whose span is right."""
    in_picture, claimed = entity.groundable, predicted.says_groundable
    box = [predicted.box] if predicted.box else []
    mask = [predicted.mask] if predicted.mask else []
    wrong: dict[Cause, bool] = {
        "span": False,
        "type": label_in(dataset.scheme, predicted) != entity.label,
        "fine": predicted.fine != entity.fine,
        "groundability": in_picture != claimed,
        "region": in_picture and not any(region_overlap(p, g) >= iou for p in box for g in entity.boxes or ()),
        "mask": in_picture and not any(region_overlap(p, g) >= iou for p in mask for g in entity.masks or ()),
    }
    if "mask" in steps and not wrong["mask"]:
        wrong["region"] = False  # the task needs the mask; a poor box with a good mask does no harm
    return [step for step in steps if wrong[step]]


def attribute(dataset: Dataset, predictions: Predictions, iou: float = 0.5) -> Attribution:
    """Causes and repairs of a run; see `Attribution`."""
    steps = judged_steps(dataset, predictions)
    found = outcomes(dataset, predictions, iou)
    causes = Counter(outcome.cause for outcome in found)
    predicted = total(count_posts(dataset, predictions, judged_task(dataset, predictions), iou=iou)).predicted
    matched = sum(outcome.predicted is not None for outcome in found)
    failures = [
        _failures(dataset, outcome.entity, outcome.predicted, iou, steps) for outcome in found if outcome.predicted
    ]

    def repaired_f1(names: Sequence[Cause]) -> float:
        right = sum(not set(wrong) - set(names) for wrong in failures)
        if "span" in names:
            return Count(right + len(found) - matched, len(found), len(found)).f1
        return Count(right, predicted, len(found)).f1

    return Attribution(
        steps=steps,
        causes={cause: causes[cause] for cause in ("right", *steps)},
        extra=predicted - matched,
        task=judged_task(dataset, predictions),
        f1=repaired_f1([]),
        repairs={
            step: Repair(alone=repaired_f1([step]), with_later=repaired_f1(steps[number:]))
            for number, step in enumerate(steps)
        },
    )
