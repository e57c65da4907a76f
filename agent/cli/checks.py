"""Cheap checks before anything is loaded: packages that a command needs, files that it will write."""

import os
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile

from namepin.tools.errors import Exit, NamepinError, install_command


def require_packages(who: str, *packages: str, extra: str, otherwise: str = "") -> None:
    """Fail if a package is not installed, without importing packages.

    Args:
        who: the feature that needs the packages, for the message.
        packages: import names.
        extra: Namepin's extra that installs the packages.
        otherwise: an alternative, for the message.

    Raises:
        NamepinError: E332.
    """
    for package in packages:
        if not _is_installed(package):
            what = f"{who} needs the package {package!r}"
            mend = f"{install_command(f'namepin[{extra}]')}{otherwise}"
            raise NamepinError("E332", what, mend=mend, exit_code=Exit.UNREACHABLE)


def check_writable(path: Path | None) -> None:
    """Fail before the run, not after it. A file that was not there is not there afterwards.

    Raises:
        NamepinError: E500 when the file cannot be written.
    """
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not os.path.lexists(path)
        path.open("a").close()
        if new:
            path.unlink()
    except OSError as error:
        raise NamepinError(
            "E500", f"cannot write {str(path)!r}: {error.strerror}", mend="choose another place"
        ) from error


def check_folder(path: Path, flag: str = "--out") -> None:
    """Fail before the run if the folder for its results is a file, or cannot be created or written.

    Raises:
        NamepinError: E500.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        what = f"cannot write the results: {error.strerror}"
        raise NamepinError("E500", what, where=str(path), mend=f"choose another folder with {flag}") from error


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # a module in sys.modules without a spec
        return False
