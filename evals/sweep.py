"""Sweeps: recorded posts under many policies and scoring settings."""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from namepin.evals.datasets.gold import Dataset
from namepin.evals.report.full import score_of
from namepin.evals.scoring.evaluate import TASKS, check_arguments, count_posts, evaluate
from namepin.evals.scoring.predictions import Predictions, from_extractions
from namepin.evals.scoring.protocols import PROTOCOLS
from namepin.evals.scoring.significance import Interval, f1_interval
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction

COUNTING = ("protocol", "iou")
"""Axes of the scoring; all others are settings of the graph."""

Replay = Callable[[Mapping[str, Any]], Iterable[Extraction]]
"""The recorded posts under a policy's overrides."""


class Point(BaseModel):
    """One point of the grid: the values as typed, F1 with its interval per evaluated task, and the cost."""

    model_config = ConfigDict(frozen=True)
    at: dict[str, str]
    f1: dict[str, Interval]
    asked: float | None = None
    """Share of the posts that went to the one model behind the gate."""


class Sweep(BaseModel):
    """All points so far. `source` is a digest of everything that is fixed."""

    model_config = ConfigDict(frozen=True)
    source: str
    dataset: str
    points: list[Point]


def axes(texts: Sequence[str]) -> dict[str, list[str]]:
    """`KEY=A,B,C` texts as key -> values.

    Raises:
        NamepinError: E139 for any other text, a repeated key, an unknown protocol, or an invalid IoU.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, rest = text.partition("=")
        values = [value.strip() for value in rest.split(",") if value.strip()]
        if not equals or not values or key in found:
            mend = "write --over gate.gamma=0.1,0.2, each key once"
            raise NamepinError("E139", f"not an axis: {text!r}", where="--over", mend=mend)
        found[key] = list(dict.fromkeys(values))
    for protocol in found.get("protocol", []):
        check_arguments(protocol, 0.5)
    for iou in found.get("iou", []):
        check_arguments(next(iter(PROTOCOLS)), number(iou))
    return found


def number(text: str) -> float:
    """A value of an axis as a number.

    Raises:
        NamepinError: E139 when it is not a number.
    """
    try:
        return float(text)
    except ValueError as error:
        raise NamepinError("E139", f"{text!r} is not a number", where="--over") from error


def grid(over: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """Every combination of values. The graph's settings vary slowest, so that each policy is replayed once."""
    keys = sorted(over, key=lambda key: key in COUNTING)
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(over[key] for key in keys))]


def policy_of(at: Mapping[str, str]) -> dict[str, float]:
    """The overrides of the graph's policy at a point.

    Raises:
        NamepinError: E139 for a value that is not a number.
    """
    values = {key: number(value) for key, value in at.items() if key not in COUNTING}
    return {key: int(value) if value.is_integer() else value for key, value in values.items()}


def policies(points: Sequence[Mapping[str, str]]) -> list[dict[str, float]]:
    """The different policies of a grid."""
    return [dict(pairs) for pairs in dict.fromkeys(tuple(policy_of(at).items()) for at in points)]


def sweep(
    dataset: Dataset, points: Sequence[dict[str, str]], replay: Replay, known: Sequence[Point] = ()
) -> Iterator[Point]:
    """Score every point, except the known ones.

    Args:
        dataset: the gold of the recorded posts.
        points: from `grid`.
        replay: runs the recorded posts under overrides.
        known: points of an earlier, interrupted sweep of the same source.

    Raises:
        NamepinError: any error of `replay`, such as E402 for a call that was not recorded.
    """
    done = {json.dumps(point.at): point for point in known}
    last: tuple[dict[str, float], Predictions] | None = None
    asked = 0.0
    for at in points:
        if (before := done.get(json.dumps(at))) is not None:
            yield before
            continue
        policy = policy_of(at)
        if last is None or last[0] != policy:
            replayed = list(replay(policy))
            asked = sum("extractor" in one.timings_ms for one in replayed) / max(1, len(replayed))
            last = policy, from_extractions(replayed, dataset)
        f1 = scores(dataset, last[1], at.get("protocol", "canonical"), float(at.get("iou", 0.5)))
        yield Point(at=at, f1=f1, asked=asked)


def scores(
    dataset: Dataset, predictions: Predictions, protocol: str = "canonical", iou: float = 0.5
) -> dict[str, Interval]:
    """F1 and its 95% interval per task that can be evaluated."""
    report = evaluate(dataset, predictions, protocol=protocol, iou=iou)
    return {
        task: f1_interval(count_posts(dataset, predictions, task, protocol, iou))
        for task in TASKS
        if score_of(report, task) is not None
    }


def known_points(path: Path, source: str) -> list[Point]:
    """The points of an earlier sweep in this file; none where it is empty or of another source."""
    try:
        earlier = Sweep.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return []
    return earlier.points if earlier.source == source else []
