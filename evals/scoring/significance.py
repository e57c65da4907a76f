"""Uncertainty of scores: bootstrap intervals, paired comparison of two systems, mean and deviation over seeds.

Posts are resampled, not entities, since the entities of a post are not independent of each other.
"""

from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.evaluate import count_posts
from namepin.evals.scoring.predictions import Predictions
from namepin.evals.scoring.protocols import Count

RESAMPLES = 2000
Floats = NDArray[np.float64]


class Interval(BaseModel):
    """A value and the central 95% of its bootstrap distribution."""

    model_config = ConfigDict(frozen=True)
    value: float
    low: float
    high: float


class Comparison(BaseModel):
    """One task, two systems.

    Attributes:
        task: its name.
        first: F1 of the first system.
        second: F1 of the second.
        difference: second minus first, with its interval.
        p_value: two-sided: the probability of a difference at least this large if both were equally good (resampled
            differences shifted to mean 0; at least 1 / number of resamples).
        differing: ids of the posts on which the systems' counts differ.
    """

    model_config = ConfigDict(frozen=True)
    task: str
    first: float
    second: float
    difference: Interval
    p_value: float
    differing: list[str]


class Spread(BaseModel):
    """A score over several seeds; `deviation` is the sample standard deviation, None for a single seed."""

    model_config = ConfigDict(frozen=True)
    mean: float
    deviation: float | None
    values: list[float]


def over_seeds(values: Sequence[float]) -> Spread:
    """Mean and deviation of one score over runs that differ only in the seed."""
    return Spread(mean=fmean(values), deviation=stdev(values) if len(values) > 1 else None, values=list(values))


def f1_interval(counts: Sequence[Count], resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Micro F1 over posts with its bootstrap interval."""
    table = _table(counts)
    low, high = np.quantile(_f1(_resample(table, resamples, seed)), (0.025, 0.975))
    return Interval(value=float(_f1(table.sum(0))), low=float(low), high=float(high))


def compare(
    dataset: Dataset,
    first: Predictions,
    second: Predictions,
    task: str,
    *,
    protocol: str = "canonical",
    iou: float = 0.5,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Paired bootstrap: both systems are scored on the same resampled posts."""
    counts = [count_posts(dataset, system, task, protocol, iou) for system in (first, second)]
    one, two = map(_table, counts)
    drawn = _resample(np.hstack((one, two)), resamples, seed)
    differences = _f1(drawn[:, 3:]) - _f1(drawn[:, :3])
    observed = float(_f1(two.sum(0)) - _f1(one.sum(0)))
    low, high = np.quantile(differences, (0.025, 0.975))
    as_large = int((np.abs(differences - differences.mean()) >= abs(observed)).sum())
    return Comparison(
        task=task,
        first=float(_f1(one.sum(0))),
        second=float(_f1(two.sum(0))),
        difference=Interval(value=observed, low=float(low), high=float(high)),
        p_value=(as_large + 1) / (resamples + 1),
        differing=[gold.post.id for gold, a, b in zip(dataset.posts, *counts, strict=True) if a != b],
    )


def _table(counts: Sequence[Count]) -> Floats:
    """Posts x (correct, predicted, gold)."""
    return np.array([(c.correct, c.predicted, c.gold) for c in counts], dtype=np.float64).reshape(-1, 3)


def _resample(table: Floats, resamples: int, seed: int) -> Floats:
    """Sums of the table's rows over bootstrap draws of posts: (resamples, columns). Parts of draws bound the memory."""
    random = np.random.default_rng(seed)
    posts = len(table)
    parts = []
    for done in range(0, resamples, 100):
        size = min(100, resamples - done)
        parts.append(random.multinomial(posts, np.full(posts, 1 / posts), size=size) @ table)
    return np.concatenate(parts)


def _f1(sums: Floats) -> Floats:
    """F1 of (..., 3) sums; 0 where all counts are 0."""
    total = sums[..., 1] + sums[..., 2]
    return np.divide(2 * sums[..., 0], total, out=np.zeros_like(total), where=total > 0)
