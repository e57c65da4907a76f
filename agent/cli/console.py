"""The console that a command prints its results to."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 1000
"""Columns of a pipe or a file: no table needs more."""


def results_console(*, markup: bool = False) -> "Console":
    """A console on stdout. In a pipe or a file nothing is wrapped or cut; in a terminal it has the terminal's width.

    Args:
        markup: whether rich's tags in the text, such as `[dim]`, are styles.
    """
    from rich.console import Console

    return Console(highlight=False, markup=markup, width=None if sys.stdout.isatty() else WIDE)
