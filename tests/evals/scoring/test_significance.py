"""Intervals and comparisons: their guarantees hold, and a real difference is found."""

import pytest

from namepin.evals.scoring.evaluate import count_posts
from namepin.evals.scoring.predictions import Predictions
from namepin.evals.scoring.protocols import Count
from namepin.evals.scoring.significance import compare, f1_interval, over_seeds
from support.eval_samples import dataset, entity, gold, predictions

DATA = dataset(*(gold(str(i), "Ada met Bob", (0, 1, "PER"), (2, 3, "PER")) for i in range(200)))


def right_on(posts: range) -> Predictions:
    return predictions(DATA, **{str(i): [entity(0, 1, "PER")] for i in posts})


def test_f1_interval_contains_value_and_narrows_with_posts() -> None:
    few = f1_interval([Count(1, 2, 2), Count(0, 2, 2)] * 10)
    many = f1_interval([Count(1, 2, 2), Count(0, 2, 2)] * 200)
    assert few.low < few.value == many.value == 0.25 < few.high
    assert many.high - many.low < (few.high - few.low) / 3


def test_f1_interval_width_equals_binomial_theory() -> None:
    """All posts have P = G = 1, so F1 is a mean of coin flips: deviation sqrt(p (1 - p) / n)."""
    counts = [Count(int(i % 4 == 0), 1, 1) for i in range(400)]
    interval = f1_interval(counts, resamples=4000)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * (0.25 * 0.75 / 400) ** 0.5, rel=0.1)


def test_f1_interval_of_empty_counts_is_zero() -> None:
    assert f1_interval([Count()] * 5).high == 0


def test_compare_of_equal_systems_finds_no_difference() -> None:
    same = right_on(range(150))
    result = compare(DATA, same, same, "mner")
    assert result.difference.value == 0 and result.p_value == 1 and not result.differing


def test_compare_of_different_systems_is_significant_and_lists_posts() -> None:
    result = compare(DATA, right_on(range(100)), right_on(range(180)), "mner")
    assert result.first < result.second and result.difference.low > 0 and result.p_value < 0.01
    assert result.differing == [str(i) for i in range(100, 180)]


def test_compare_of_chance_difference_is_not_significant() -> None:
    result = compare(DATA, right_on(range(100)), right_on(range(1, 102)), "mner")
    assert result.difference.low < 0 < result.difference.high and result.p_value > 0.1


def test_count_posts_returns_counts_of_each_post() -> None:
    counts = count_posts(DATA, right_on(range(3)), "mner")
    assert counts[0] == Count(1, 1, 2) and counts[3] == Count(0, 0, 2)


def test_over_seeds_returns_mean_and_sample_deviation() -> None:
    spread = over_seeds([0.7, 0.8, 0.9])
    assert (spread.mean, spread.deviation) == (pytest.approx(0.8), pytest.approx(0.1))
    assert over_seeds([0.7]).deviation is None
