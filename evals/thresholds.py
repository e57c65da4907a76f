"""Suggests values of the graph's thresholds by the score on a development split."""

from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets.gold import Dataset
from namepin.evals.report.full import score_of
from namepin.evals.scoring.evaluate import count_posts, evaluate
from namepin.evals.scoring.predictions import Predictions, from_extractions
from namepin.evals.scoring.significance import Comparison, Interval, compare, f1_interval
from namepin.evals.sweep import Replay
from namepin.tools.errors import NamepinError

CANDIDATES: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "gamma": ("gate.gamma", (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 4.0)),
    "match-threshold": ("match.threshold", tuple(step / 20 for step in range(1, 20))),
}
"""Name of a threshold -> its setting, and the values to try."""

NEEDS = {"gamma": "reranker", "match-threshold": "matcher"}
"""The role without which a setting changes nothing."""

TASKS_FOR = {"gamma": ("fine.mner", "mner"), "match-threshold": ("gmner", "eeg")}
"""The deciding score is the first of these that can be evaluated."""


class Suggestion(BaseModel):
    """One setting's curve on the development split, and the value that is best there.

    Attributes:
        key: the setting.
        task: the task whose F1 decides.
        current: the profile's value.
        best: the value with the highest F1; among equals the nearest to `current`.
        gain: F1 of `best` minus F1 of `current`, by paired bootstrap.
        curve: (value, F1 with its interval).
    """

    model_config = ConfigDict(frozen=True)
    key: str
    task: str
    current: float
    best: float
    gain: Comparison
    curve: list[tuple[float, Interval]]

    @property
    def flat(self) -> bool:
        """Whether the gain is not significant: its interval contains 0."""
        return self.gain.difference.low <= 0


def parse(text: str) -> list[str]:
    """Split `gamma,match-threshold` into names. Gamma comes first, since the match depends on the reranked type.

    Raises:
        NamepinError: E139 for a name that cannot be suggested.
    """
    asked = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in asked if name not in CANDIDATES]
    if unknown or not asked:
        what = f"cannot suggest {unknown[0] if unknown else text!r}"
        raise NamepinError("E139", what, where="--suggest", mend=f"use {', '.join(CANDIDATES)}")
    return [name for name in CANDIDATES if name in asked]


def check_not_test(dataset: Dataset) -> None:
    """Refuse test posts, also under another name: a threshold must never be chosen on them.

    Raises:
        NamepinError: E139.
    """
    if "test" in f"{dataset.split} {dataset.release}".lower():
        raise NamepinError("E139", f"nothing is picked on test posts: {dataset.title}", mend="use a development split")


def values_of(name: str, current: float) -> list[float]:
    """The values to try for a setting, including the profile's own value."""
    return sorted({*CANDIDATES[name][1], current})


def suggest(dataset: Dataset, name: str, current: float, replay: Replay, fixed: Mapping[str, float]) -> Suggestion:
    """Try every value.

    Args:
        dataset: the development posts.
        name: a key of `CANDIDATES`.
        current: the profile's value.
        replay: runs the recorded posts under overrides.
        fixed: further overrides, such as a gamma that was suggested before.

    Raises:
        NamepinError: E139 when no score can judge this setting on this data.
    """
    key = CANDIDATES[name][0]
    values = values_of(name, current)
    runs = {value: from_extractions(replay({**fixed, key: value}), dataset) for value in values}
    task = _task(dataset, name, runs[current])
    curve = [(value, f1_interval(count_posts(dataset, runs[value], task))) for value in values]
    best = max(curve, key=lambda point: (point[1].value, -abs(point[0] - current)))[0]
    gain = compare(dataset, runs[current], runs[best], task)
    return Suggestion(key=key, task=task, current=current, best=best, gain=gain, curve=curve)


def _task(dataset: Dataset, name: str, predictions: Predictions) -> str:
    report = evaluate(dataset, predictions)
    for task in TASKS_FOR[name]:
        if score_of(report, task) is not None:
            return task
    what = f"{' and '.join(TASKS_FOR[name])} cannot be evaluated on these posts"
    raise NamepinError("E139", f"cannot suggest {name}: {what}", mend="give data with gold and pictures for it")


def policies(names: Sequence[str], current: Mapping[str, float]) -> list[dict[str, float]]:
    """The policies that a suggestion may replay: all gammas at the current threshold, all thresholds at every gamma."""
    gammas = values_of("gamma", current["gamma"]) if "gamma" in names else [current["gamma"]]
    thresholds = values_of("match-threshold", current["match-threshold"]) if "match-threshold" in names else []
    low = min([*thresholds, current["match-threshold"]])
    # The lowest threshold covers the mentions of all higher ones, and a recorded batch answers for its parts.
    return [{"gate.gamma": gamma, "match.threshold": low} for gamma in gammas]
