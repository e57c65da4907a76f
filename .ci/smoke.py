"""Does Namepin run with the packages of this environment? Imports every module, then reads the README's post.

Prints each break in one line, and the direct dependencies whose versions are not the lock's. Exits 1 for breaks.
"""

import importlib
import pkgutil
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import namepin
from namepin import Namepin

ROOT = Path(__file__).resolve().parents[1]
POST = "So proud of Eileen Collins, the first woman to command a Space Shuttle"


def broken_imports() -> list[str]:
    """Modules that do not import, one line each."""
    found, modules = [], list(pkgutil.walk_packages(namepin.__path__, "namepin.", onerror=lambda name: None))
    print(f"{len(modules)} modules")
    for module in modules:
        try:
            importlib.import_module(module.name)
        except (Exception, SystemExit) as error:
            found.append(f"{module.name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    return found


def broken_post() -> list[str]:
    """What is wrong with the README's example, run here."""
    try:
        result = Namepin.from_profile("starter").extract(POST, image=ROOT / "examples" / "astronaut.jpg")
    except Exception as error:
        return [f"the README's example: {type(error).__name__}: {error}"]
    names = [entity.text for entity in result.entities if entity.groundable]
    return [] if names == ["Eileen Collins"] else [f"the README's example pins {names}"]


def differences() -> list[str]:
    """The direct dependencies whose version is not the lock's."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    # A package may have several pins, by Python version.
    locked = set(re.findall(r"^\S+==\S+", (ROOT / "requirements" / "demo.txt").read_text("utf-8"), re.MULTILINE))
    names = [re.split(r"[<>=!~;\[ ]", line)[0] for line in table]
    return [f"{name} {version(name)}" for name in names if f"{name}=={version(name)}" not in locked]


def main() -> int:
    """Print the report, and return the exit status."""
    breaks = [*broken_imports(), *broken_post()]
    print("not the lock's:", ", ".join(differences()) or "nothing")
    print("\n".join(f"BROKEN {line}" for line in breaks) or "every module imports, and the README's example is pinned")
    return bool(breaks)


if __name__ == "__main__":
    sys.exit(main())
