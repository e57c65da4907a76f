"""Deprecations of other packages, which a person at a terminal can do nothing about."""

import sys
import warnings
from pathlib import Path
from typing import TextIO

HIDDEN = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
_PACKAGE = Path(__file__).parent.parent


def hide_foreign_deprecations() -> None:
    """Show a deprecation in this process only where Namepin's own code is at fault.

    The hook is on what is shown, as packages (LangChain, LangSmith) put filters of their own before everyone's.
    With `PYTHONWARNINGS` or `python -W` nothing is changed: somebody has said what to show.
    """
    if sys.warnoptions:
        return
    show = warnings.showwarning

    def show_ours(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, HIDDEN) or Path(filename).is_relative_to(_PACKAGE):
            show(message, category, filename, lineno, file, line)

    warnings.showwarning = show_ours
