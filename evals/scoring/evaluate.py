"""The evaluator: tasks, counts over a data set, and the report behind `namepin eval`.

A task defines the parts of an entity that must be right: always its span, its type in one of the schemes, its region as
a box or as a mask. A task without gold, or without answers in the predictions, is None; it is never scored as zero.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets.gold import Dataset, GoldEntity
from namepin.evals.scoring.grounding import Groundability, Regions, groundability, pair_entities, regions
from namepin.evals.scoring.predicted import Predicted, label_in
from namepin.evals.scoring.predictions import Predictions, repeats
from namepin.evals.scoring.protocols import PROTOCOLS, Case, Count, Item
from namepin.tools.errors import NamepinError
from namepin.tools.labels import COARSE8, COARSE8_TO_4, SCHEMES


@dataclass(frozen=True, slots=True)
class Task:
    """`scheme`: the scheme of the type that must be right (None: no type); `region`: kind of region (None: none)."""

    scheme: str | None
    region: Literal["box", "mask"] | None = None


OWN = "own"
"""The scheme of the data set's labels: the 4 types, or FMNERG's 8."""

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        "span": Task(None),
        "mner": Task(OWN),
        "eeg": Task(None, "box"),
        "gmner": Task(OWN, "box"),
        "ees": Task(None, "mask"),
        "smner": Task(OWN, "mask"),
        "fine.mner": Task("fmnerg51"),
        "fine.gmner": Task("fmnerg51", "box"),
        "fine.smner": Task("fmnerg51", "mask"),
        "coarse4.mner": Task("gmner4"),
        "coarse4.gmner": Task("gmner4", "box"),
    }
)
"""Every task by its name in the JSON."""


class Score(BaseModel):
    """Precision, recall and F1 as fractions, with the counts behind them."""

    model_config = ConfigDict(frozen=True)
    precision: float
    recall: float
    f1: float
    correct: int
    predicted: int
    gold: int

    @classmethod
    def of(cls, count: Count) -> "Score":
        """The score of a count."""
        return cls(
            precision=count.precision,
            recall=count.recall,
            f1=count.f1,
            correct=count.correct,
            predicted=count.predicted,
            gold=count.gold,
        )


class Loss(BaseModel):
    """The causes of lost F1: `span + coarse + fine` is 1 minus the F1 of the finest types.

    Missed and extra spans lose `span`. Right spans of a wrong coarse type lose `coarse`. Right coarse types of a wrong
    fine type lose `fine` (None without fine types). The counts are numbers of gold entities, and of extra predictions.
    """

    model_config = ConfigDict(frozen=True)
    span: float
    coarse: float
    fine: float | None
    missed: int
    extra: int
    wrong_coarse: int
    wrong_fine: int | None


class Report(BaseModel):
    """The JSON of `namepin eval --json`; fractions, not percent. Null: without gold, or not evaluated (`notes`)."""

    model_config = ConfigDict(frozen=True)
    dataset: str
    split: str
    title: str
    release: str
    sha256: str
    protocol: str
    iou: float
    n_posts: int
    mner: Score | None
    eeg: Score | None
    gmner: Score | None
    ees: Score | None
    smner: Score | None
    span: Score
    fine: dict[str, Score | None] | None
    coarse4: dict[str, Score | None] | None
    by_type: dict[str, Score]
    by_type_of: dict[str, dict[str, Score]]
    loss: Loss | None
    groundability: Groundability | None
    regions: Regions | None
    duplicates: int
    notes: list[str]
    missing_ids: list[str]
    unknown_ids: list[str]
    failed_ids: list[str]
    problems: list[dict[str, str]]


def type_of_gold(entity: GoldEntity, own: str, scheme: str) -> str | None:
    """A gold entity's type in `scheme`; its `label` is in the scheme `own`."""
    if scheme == "fmnerg51":
        return entity.fine
    if scheme == "gmner4" and own == "fmnerg8":
        return COARSE8_TO_4[entity.label]
    return entity.label


def cases(dataset: Dataset, predictions: Predictions, task: Task) -> list[Case]:
    """Every post as a case of the task, in the data set's order."""
    asked = dataset.scheme if task.scheme == OWN else task.scheme
    scheme = asked or ("fmnerg51" if dataset.has_fine else dataset.scheme)
    result = []
    for gold in dataset.posts:
        golden = []
        for entity in gold.entities:
            kind = type_of_gold(entity, dataset.scheme, scheme) or "?"
            regions = ((entity.masks if task.region == "mask" else entity.boxes) or ()) if task.region else ()
            groundable = bool(regions) if task.region else None
            golden.append(Item(entity.span, entity.text, kind, asked and kind, groundable, regions))
        predicted = [
            _predicted_item(entity, scheme, asked is not None, task.region)
            for entity in predictions.entities.get(gold.post.id, ())
        ]
        proposals = predictions.proposals.get(gold.post.id) if task.region == "box" else None
        result.append(Case(golden, predicted, proposals))
    return result


def _predicted_item(predicted: Predicted, scheme: str, typed: bool, region: str | None) -> Item:
    kind = label_in(scheme, predicted) or "unknown"
    label = kind if typed else None
    if region is None:
        return Item(predicted.span, predicted.text, kind, label)
    found = predicted.mask if region == "mask" else predicted.box
    regions = (found,) if found is not None and predicted.says_groundable else ()
    return Item(predicted.span, predicted.text, kind, label, predicted.says_groundable, regions)


def count_posts(
    dataset: Dataset, predictions: Predictions, task: str, protocol: str = "canonical", iou: float = 0.5
) -> list[Count]:
    """The count of every post in one task, in the data set's order, for bootstrap resampling."""
    counter = PROTOCOLS[protocol]
    return [counter(case, iou) for case in cases(dataset, predictions, TASKS[task])]


def total(counts: Iterable[Count]) -> Count:
    """The sum of counts."""
    return sum(counts, Count())


def _not_evaluated(dataset: Dataset, predictions: Predictions, task: Task) -> str | None:
    """Why a task cannot be scored, or None when it can."""
    if task.region == "box" and not dataset.has_boxes:
        return "boxes: no gold (xml/ is absent)"
    if task.region == "mask" and not dataset.has_masks:
        return "masks: no gold (masks/ is absent)"
    if task.region and not predictions.visual:
        return "grounding: not evaluated, the predictions say nothing about the picture"
    if task.region == "mask" and not predictions.with_masks:
        return "masks: not evaluated, the predictions have no masks"
    if task.scheme == "fmnerg51" and not dataset.has_fine:
        return "fine types: no gold"
    if task.scheme == "gmner4" and dataset.scheme == "gmner4":
        return "4 types: the data set's own"
    if task.scheme == "fmnerg51" and not predictions.fine:
        return "51 types: not evaluated, the predictions have no fine labels"
    if task.scheme == OWN and dataset.scheme == "fmnerg8" and not predictions.coarse8:
        return "8 types: not evaluated, they cannot be told from the 4 without fine labels"
    return None


def check_arguments(protocol: str, iou: float) -> None:
    """Check the name of the protocol and the IoU threshold.

    Raises:
        NamepinError: E139 when one is invalid.
    """
    if protocol not in PROTOCOLS:
        mend = f"use one of {', '.join(PROTOCOLS)}"
        raise NamepinError("E139", f"unknown protocol {protocol!r}", where="--protocol", mend=mend)
    if not 0 < iou <= 1:
        raise NamepinError("E139", f"IoU threshold {iou} is not in (0, 1]", where="--iou")


def _is_expected(dataset: Dataset, task: Task) -> bool:
    """Whether a report should explain why this task is missing."""
    if task.region == "mask":
        return dataset.name == "smner" or dataset.has_masks
    return task.scheme in (None, OWN) or dataset.has_fine


def evaluate(dataset: Dataset, predictions: Predictions, *, protocol: str = "canonical", iou: float = 0.5) -> Report:
    """Score predictions on a data set in every task that can be scored.

    Args:
        dataset: the gold, after `usable()`.
        predictions: the result of `read_predictions` or `from_extractions` on the same data set.
        protocol: one of `PROTOCOLS`.
        iou: threshold in (0, 1].

    Raises:
        NamepinError: E139 for an unknown protocol or a threshold outside (0, 1].
    """
    check_arguments(protocol, iou)
    scored = _score_tasks(dataset, predictions, protocol, iou)
    scores, built, notes = scored.scores, scored.cases, scored.notes
    if predictions.unstated_count:
        notes.append(f"{predictions.unstated_count} entities say nothing about the picture: read as not in it")
    if predictions.cannot_tell_count:
        count = predictions.cannot_tell_count
        notes.append(f"{count} entities of which the matcher cannot tell: read as match.unknown says")
    span = scores["span"]
    assert span is not None  # a text task without types can always be scored
    fine = {"mner": scores["fine.mner"], "gmner": scores["fine.gmner"], "smner": scores["fine.smner"]}
    coarse4 = {"mner": scores["coarse4.mner"], "gmner": scores["coarse4.gmner"]}
    pairs = pair_entities(dataset, built["eeg"]) if "eeg" in built else []
    return Report(
        dataset=dataset.name,
        split=dataset.split,
        title=dataset.title,
        release=dataset.release,
        sha256=dataset.sha256,
        protocol=protocol,
        iou=iou,
        n_posts=len(dataset.posts),
        **{name: scores[name] for name in ("mner", "eeg", "gmner", "ees", "smner")},
        span=span,
        fine=fine if dataset.has_fine else None,
        coarse4=coarse4 if dataset.scheme != "gmner4" else None,
        by_type=scored.by_type.get("mner", {}),
        by_type_of=scored.by_type,
        loss=_loss(dataset, predictions, built) if scores["mner"] else None,
        groundability=groundability(pairs) if "eeg" in built else None,
        regions=regions(pairs, built["eeg"], iou) if "eeg" in built else None,
        duplicates=repeats(predictions),
        notes=notes,
        missing_ids=list(predictions.missing),
        unknown_ids=list(predictions.unknown),
        failed_ids=list(predictions.failed),
        problems=[
            {"code": p.code, "where": p.where, "what": p.what} for p in (*dataset.problems, *predictions.problems)
        ],
    )


@dataclass
class _ScoredTasks:
    """Every task's score, None where it was not evaluated.

    Attributes:
        scores: score per task.
        cases: the counted cases per evaluated task.
        by_type: scores by type, per task with types.
        notes: reasons why an expected task was not evaluated.
    """

    scores: dict[str, Score | None] = field(default_factory=dict)
    cases: dict[str, list[Case]] = field(default_factory=dict)
    by_type: dict[str, dict[str, Score]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _score_tasks(dataset: Dataset, predictions: Predictions, protocol: str, iou: float) -> _ScoredTasks:
    scored = _ScoredTasks()
    for name, task in TASKS.items():
        reason = _not_evaluated(dataset, predictions, task)
        if reason:
            scored.scores[name] = None
            scored.notes += [reason] * (reason not in scored.notes and _is_expected(dataset, task))
            continue
        every = scored.cases[name] = cases(dataset, predictions, task)
        scored.scores[name] = Score.of(total(PROTOCOLS[protocol](case, iou) for case in every))
        if task.scheme:
            scheme = dataset.scheme if task.scheme == OWN else task.scheme
            scored.by_type[name] = _by_type(every, SCHEMES[scheme], protocol, iou)
    return scored


def _by_type(every: Sequence[Case], labels: Sequence[str], protocol: str, iou: float) -> dict[str, Score]:
    """The score of each type: its gold entities against its predictions. Fine types without either are left out."""
    counts: dict[str, Count] = {} if len(labels) > len(COARSE8) else dict.fromkeys(labels, Count())
    for case in every:
        present = {item.label for item in (*case.gold, *case.predicted)}
        for label in (label for label in labels if label in present):
            golden = [item for item in case.gold if item.label == label]
            predicted = [item for item in case.predicted if item.label == label]
            count = PROTOCOLS[protocol](Case(golden, predicted, case.proposals), iou)
            counts[label] = counts.get(label, Count()) + count
    return {label: Score.of(counts[label]) for label in labels if label in counts}


def _loss(dataset: Dataset, predictions: Predictions, built: Mapping[str, list[Case]]) -> Loss:
    """The split of 1 - F1, by the canonical protocol; see `Loss`."""
    with_fine = "fine.mner" in built
    canonical = PROTOCOLS["canonical"]
    levels = [name for name in ("span", "mner", "fine.mner") if name in built]
    f1 = {name: total(canonical(case, 1) for case in built[name]).f1 for name in levels}
    found: Counter[str] = Counter()
    for gold in dataset.posts:
        predicted = {p.span: p for p in predictions.entities.get(gold.post.id, ())}
        found["extra"] += len(predicted.keys() - {entity.span for entity in gold.entities})
        for entity in gold.entities:
            answer = predicted.get(entity.span)
            if answer is None:
                found["missed"] += 1
            elif label_in(dataset.scheme, answer) != entity.label:
                found["wrong_coarse"] += 1
            elif with_fine and answer.fine != entity.fine:
                found["wrong_fine"] += 1
    return Loss(
        span=1 - f1["span"],
        coarse=f1["span"] - f1["mner"],
        fine=f1["mner"] - f1["fine.mner"] if with_fine else None,
        missed=found["missed"],
        extra=found["extra"],
        wrong_coarse=found["wrong_coarse"],
        wrong_fine=found["wrong_fine"] if with_fine else None,
    )
