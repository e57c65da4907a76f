"""Hides deprecation warnings of other packages, which a user cannot fix."""

import sys
import warnings
from pathlib import Path
from typing import TextIO

HIDDEN = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
_PACKAGE = Path(__file__).parent.parent


def hide_foreign_deprecations() -> None:
    """Show deprecation warnings in this process only for Namepin's own code.

    The hook replaces `warnings.showwarning`, because packages (LangChain, LangSmith) put their own filters first. With
    `PYTHONWARNINGS` or `python -W` nothing changes, since the user has chosen what to show.
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
