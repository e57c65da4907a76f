"""`namepin eval --suggest`: thresholds by the score on a development split, with the curves behind them."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from namepin.tools.errors import NamepinError

if TYPE_CHECKING:
    from rich.console import Console

    from namepin.agent.api import Namepin
    from namepin.evals.datasets.gold import Dataset
    from namepin.evals.thresholds import Suggestion


def suggest_for(pin: "Namepin", data: "Dataset", names: Sequence[str], messages: "Console") -> "list[Suggestion]":
    """Record the posts once, with every call that any value needs, and try all values on the recording.

    Raises:
        NamepinError: E139 on test posts, or if a setting changes nothing or cannot be judged.
    """
    from namepin.agent.cli.progress import count_progress
    from namepin.agent.workflows.sweep import fill, replayed_from
    from namepin.evals import thresholds as suggest

    suggest.check_not_test(data)
    for name in names:
        role = suggest.NEEDS[name]
        if role not in pin.settings.tools and role not in pin.calls.fingerprints:
            what = f"profile {pin.settings.profile} has no {role}: {name} changes nothing"
            raise NamepinError("E139", what, where="--suggest", mend=f"set {role}.backend")
        if role == "matcher" and not data.has_images:
            raise NamepinError("E139", f"{name} needs pictures, but there is no images/", where="--suggest")
    current = {"gamma": pin.settings.gate.gamma, "match-threshold": pin.settings.match.threshold}
    needed = suggest.policies(names, current)
    found: list[Suggestion] = []
    fixed: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        with count_progress("recording", (1 + len(needed)) * len(data.posts), messages) as done:
            fill(Path(folder), data, pin, needed, done)
        tries = sum(len(suggest.values_of(name, current[name])) for name in names)
        with count_progress("replaying", tries * len(data.posts), messages) as done:
            replay = replayed_from(Path(folder), data, done)
            for name in names:
                found.append(suggest.suggest(data, name, current[name], replay, fixed))
                fixed[found[-1].key] = found[-1].best
    return found


def show_suggestion(suggestion: "Suggestion", console: "Console") -> None:
    """The curve as a table, the best value, and whether its gain is significant."""
    from rich.table import Table

    table = Table(suggestion.key, f"{suggestion.task} F1", "95%", "")
    for value, f1 in suggestion.curve:
        mark = "best" if value == suggestion.best else "now" if value == suggestion.current else ""
        table.add_row(f"{value:g}", f"{100 * f1.value:.2f}", f"{100 * f1.low:.1f}-{100 * f1.high:.1f}", mark)
    console.print(table)
    gain = suggestion.gain.difference
    line = (
        f"{100 * gain.value:+.2f} against {suggestion.current:g}, 95% {100 * gain.low:+.2f} to {100 * gain.high:+.2f}"
    )
    if suggestion.best == suggestion.current:
        console.print(f"keep --set {suggestion.key}={suggestion.best:g}")
    elif suggestion.flat:
        console.print(f"--set {suggestion.key}={suggestion.best:g} is best, but the curve is flat there: {line}")
    else:
        console.print(f"--set {suggestion.key}={suggestion.best:g}: {line}")
