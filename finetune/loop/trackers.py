"""The packages that write the curves of a run."""

from importlib.util import find_spec

from namepin.tools.errors import NamepinError, install_command


def require_tracker(name: str) -> None:
    """Require the package of a recipe's `report_to`.

    Raises:
        NamepinError: E301 when it is missing.
    """
    if name == "none" or find_spec(name) is not None:
        return
    package = "namepin[curves]" if name == "tensorboard" else name
    mend = f"{install_command(package)}, or set report_to to none"
    raise NamepinError("E301", f"report_to={name} needs the package {name}", mend=mend)
