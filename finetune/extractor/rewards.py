"""Rewards of an answer, each a function of its own: the evaluator's counts of one post, and the answer's form.

A reward is in 0 to 1, a penalty in -1 to 0. None means that the post does not ask the question: there is no name in its
picture, or all are. An answer without a list of names gets nothing.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.evaluate import TASKS, cases
from namepin.evals.scoring.grounding import Pair, pair_entities
from namepin.evals.scoring.predicted import Predicted, nowhere
from namepin.evals.scoring.predictions import Predictions
from namepin.evals.scoring.protocols import Count, best_iou, canonical
from namepin.tools.extractor.align import align
from namepin.tools.extractor.answer import ENTITIES, REASONING, Scheme, read_answer
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.prompt import types_of
from namepin.tools.extractor.result import extracted
from namepin.tools.interfaces import ExtractRequest


@dataclass(frozen=True)
class Verdict:
    """What the evaluator says of one answer.

    Attributes:
        exact: whether the answer has exactly the asked form.
        readable: whether a list of names can be read from it.
        span: counts of names.
        typed: counts of names with their types.
        pairs: (predicted, gold, small) of the names whose span is right.
        present: number of gold names in the picture; None where the post has no picture.
        absent: number of the others; None likewise.
    """

    exact: bool
    readable: bool
    span: Count
    typed: Count
    pairs: Sequence[Pair]
    present: int | None
    absent: int | None


Reward = Callable[[Verdict], float | None]


def reward_json(verdict: Verdict) -> float:
    """1 for an answer in exactly the asked form."""
    return float(verdict.exact)


def reward_span(verdict: Verdict) -> float:
    """F1 of the names; a name that is not in the text counts against it."""
    return _f1(verdict, verdict.span)


def reward_type(verdict: Verdict) -> float:
    """F1 of the names with their types."""
    return _f1(verdict, verdict.typed)


def reward_groundability(verdict: Verdict) -> float | None:
    """F1 of the names with the right answer to "is it in the picture"."""
    if verdict.present is None:
        return None
    right = sum(predicted.groundable == gold.groundable for predicted, gold, _ in verdict.pairs)
    return _f1(verdict, replace(verdict.span, correct=right))


def reward_iou(verdict: Verdict) -> float | None:
    """Mean IoU over the gold names in the picture; a missed name or box counts as 0."""
    if not verdict.present:
        return None
    return sum(best_iou(predicted, gold) for predicted, gold, _ in verdict.pairs if gold.groundable) / verdict.present


def penalty_visual(verdict: Verdict) -> float | None:
    """The visual shortcut: the share of the absent names that got a box."""
    if not verdict.absent:
        return None
    return -sum(bool(predicted.regions) for predicted, gold, _ in verdict.pairs if not gold.groundable) / verdict.absent


def penalty_textual(verdict: Verdict) -> float | None:
    """The textual shortcut: the share of the present names that were said not to be in the picture."""
    if not verdict.present:
        return None
    return -sum(not predicted.groundable for predicted, gold, _ in verdict.pairs if gold.groundable) / verdict.present


REWARDS: Sequence[Reward] = (
    reward_json,
    reward_span,
    reward_type,
    reward_groundability,
    reward_iou,
    penalty_visual,
    penalty_textual,
)
"""All rewards; a recipe has the weight of each under the function's name."""


def _f1(verdict: Verdict, count: Count) -> float:
    """The evaluator's F1, but 1 for the right answer that a post names nothing."""
    return 1.0 if verdict.readable and not count.predicted and not count.gold else count.f1


class Judge:
    """Judges answers to the posts of a data set."""

    def __init__(self, dataset: Dataset, scheme: Scheme) -> None:
        self._posts = {gold.post.id: replace(dataset, posts=(gold,)) for gold in dataset.posts}
        self._scheme: Scheme = scheme
        self._tasks = tasks_of(dataset, scheme)
        self._types = types_of(scheme)
        self.verdict = lru_cache(maxsize=1024)(self._verdict)  # every reward asks about the same answers

    def _verdict(self, post: str, answer: str, frame: BoxFrame | None) -> Verdict:
        """The verdict on an answer.

        Args:
            post: the post's id.
            answer: what the model wrote.
            frame: how the model counts in the post's picture; None without a picture.
        """
        dataset = self._posts[post]
        gold = dataset.posts[0]
        predicted = predicted_of(answer, self._scheme, gold.post.text, gold.post.tokens or (), frame)
        given = Predictions({post: predicted or ()}, {})
        span, typed, boxed = ([*cases(dataset, given, TASKS[name])] for name in ("span", self._tasks[0], "eeg"))
        present = sum(entity.groundable for entity in gold.entities)
        return Verdict(
            exact=is_exact(answer, self._types),
            readable=predicted is not None,
            span=canonical(span[0], 0.5),
            typed=canonical(typed[0], 0.5),
            pairs=pair_entities(dataset, boxed) if frame else (),
            present=present if frame else None,
            absent=len(gold.entities) - present if frame else None,
        )


def tasks_of(dataset: Dataset, scheme: Scheme) -> tuple[str, str]:
    """The evaluator's tasks for names with types, and for these with boxes."""
    if scheme == "fmnerg51":
        return "fine.mner", "fine.gmner"
    return ("mner", "gmner") if dataset.scheme == "gmner4" else ("coarse4.mner", "coarse4.gmner")


def predicted_of(
    answer: str, scheme: Scheme, text: str, tokens: Sequence[str], frame: BoxFrame | None
) -> tuple[Predicted, ...] | None:
    """The evaluator's form of an answer, with every name that is not in the text; None where there is no list."""
    read = read_answer(answer, scheme)
    if read is None:
        return None
    request = ExtractRequest(text=text, tokens=tuple(tokens))
    found = extracted(request, read, frame, "extractor")
    there = tuple(
        Predicted(
            span=(mention.start, mention.end),
            text=mention.text,
            label=mention.label,
            fine=mention.fine_label,
            groundable=place.groundable,
            box=place.box,
        )
        for mention, place in zip(found.mentions, found.places, strict=True)
    )
    elsewhere = tuple(
        Predicted(span=nowhere(number), text=item.text, label=item.label, fine=item.fine)
        for number, item in enumerate(align(read.items, tokens).unplaced)
    )
    return there + elsewhere


def is_exact(answer: str, types: Sequence[str]) -> bool:
    """Whether an answer is JSON of exactly the asked form: nothing before or after it, no other key, no other type."""
    try:
        value: Any = json.loads(answer)
    except (ValueError, RecursionError):
        return False
    if isinstance(value, dict):
        if set(value) != {REASONING, ENTITIES} or not isinstance(value[REASONING], str):
            return False
        value = value[ENTITIES]
    return isinstance(value, list) and all(_is_exact_item(item, types) for item in value)


def _is_exact_item(item: Any, types: Sequence[str]) -> bool:
    if not isinstance(item, Mapping) or set(item) != {"text", "type", "box"}:
        return False
    box = item["box"]
    numbers = isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))
    return isinstance(item["text"], str) and item["type"] in types and (box is None or numbers)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def as_trl_reward(reward: Reward, judge: Judge) -> Callable[..., list[float | None]]:
    """A reward in the form that trl's trainer calls: one value per drawn answer."""

    def judge_answers(
        completions: Sequence[Any], post: Sequence[str], frame: Sequence[Any], **_: Any
    ) -> list[float | None]:
        answers = [completion[-1]["content"] for completion in completions]
        return [reward(judge.verdict(*one)) for one in zip(post, answers, frame, strict=True)]

    judge_answers.__name__ = reward.__name__
    return judge_answers
