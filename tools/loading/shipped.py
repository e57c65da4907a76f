"""The weights that ship with Namepin. Importing this module does not import PyTorch."""

from pathlib import Path

from namepin.tools.errors import NamepinError

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"
"""The weights that ship with Namepin, one folder each. Profiles name them by their path below this folder."""


def shipped_folder(name: str) -> Path | None:
    """The folder of weights that ship with Namepin; None if no weights have that name."""
    folder = (WEIGHTS / name).resolve()
    return folder if folder.is_dir() and folder.is_relative_to(WEIGHTS) and folder != WEIGHTS else None


CLONE_COMMAND = "git clone the repository, and there: python -m pip install -e ."
"""The command that adds the sandbox's weights."""


def find_shipped(name: str) -> Path | None:
    """As `shipped_folder`, for a loader.

    Raises:
        NamepinError: E221 for the sandbox's weights when Namepin was installed from a wheel, which lacks them.
    """
    folder = shipped_folder(name)
    if folder is None and name.startswith("sandbox/") and not Path(name).exists():
        what = "the sandbox's weights (19 MB) are in a clone, not in an installed Namepin"
        raise NamepinError("E221", what, where=name, mend=CLONE_COMMAND)
    return folder
