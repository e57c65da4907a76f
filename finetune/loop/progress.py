"""Progress of a training run: a bar on a terminal, a plain line every 30 seconds in a log file."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from rich import get_console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 30.0
"""Seconds between plain lines."""


class ProgressReport:
    """Progress of one run over its steps; a context manager."""

    def __init__(
        self, name: str, total: int, done: int = 0, *, quiet: bool = False, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin.

        Args:
            name: name of the trained tool.
            total: number of steps.
            done: steps taken before a resume.
            quiet: print nothing; for all processes but the first.
            clock: function that returns seconds.
        """
        self._name, self._total, self._done, self._first, self._quiet = name, total, done, done, quiet
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._plain = not get_console().is_terminal
        self._bar = Progress(*columns, TimeRemainingColumn(compact=True), disable=quiet or self._plain)
        self._shown = self._bar.add_task(name, total=total, completed=done)
        self._clock = clock
        self._start = self._last = clock()

    def __enter__(self) -> "ProgressReport":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def step(self, message: str) -> None:
        """Count one step; `message` has its loss and rate."""
        self._done += 1
        self._bar.update(self._shown, advance=1, description=message)
        if self._plain and self._clock() - self._last >= EVERY:
            self.note(message)

    def note(self, message: str) -> None:
        """Print a plain line at once to a log file; on a terminal the bar already shows it."""
        self._last = self._clock()
        if not self._plain or self._quiet:
            return
        seconds, steps = self._last - self._start, self._done - self._first
        left = f", about {_span(seconds / steps * (self._total - self._done))} left" if steps else ""
        print(f"{self._name}: step {self._done} of {self._total}, {message}, {_span(seconds)} so far{left}", flush=True)

    def row(self, scores: Mapping[str, Any]) -> None:
        """The scores of an epoch, as one line of JSON."""
        if self._quiet:
            return
        if self._plain:
            print(json.dumps(scores), flush=True)
        else:
            self._bar.console.print_json(json.dumps(scores), indent=None)


def _span(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
