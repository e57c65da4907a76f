"""Waiting in tests: until an event has happened, on any machine."""

import time
from collections.abc import Callable

PATIENCE_S = 600.0
"""After so long a test that hangs gives up. No test may depend on it: it is less than pytest's own time limit only
so that the message says what did not happen."""


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return when the condition is true.

    Args:
        condition: asked again and again.
        what: what is waited for, in words.

    Raises:
        AssertionError: when the condition is not true after `PATIENCE_S`.
    """
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.01)


def growth(run: Callable[[int], object], small: int, large: int, *, repeats: int = 2) -> float:
    """How many times the CPU time of `run(large)` is that of `run(small)`, the least of some runs each.

    Linear work grows as the size does, on any machine; a quadratic one grows by the square.
    """

    def seconds(size: int) -> float:
        began = time.thread_time()
        run(size)
        return time.thread_time() - began

    least = [min(seconds(size) for _ in range(repeats)) for size in (small, large)]
    return least[1] / max(least[0], 1e-6)
