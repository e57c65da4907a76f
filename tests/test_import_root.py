"""Everything that is installed lies under `namepin`, whatever a user's project calls its own modules.

A wheel and an sdist are built once, from a copy of the repository, and a wheel of the sdist, as pip does. Each of two
environments (wheel, editable) sees the libraries of this one through a `.pth` file, and only its own Namepin.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.paths import ROOT

pytestmark = pytest.mark.slow

KINDS = ("wheel", "editable")
PACKAGES = ("agent", "evals", "finetune", "graphs", "tools")
BUILD = "from setuptools import build_meta; build_meta.build_sdist({0!r}); build_meta.build_wheel({0!r})"
OF_SDIST = "from setuptools import build_meta; build_meta.build_wheel({0!r})"
TYPED = ("pydantic", "pydantic_core", "annotated_types", "typing_extensions.py", "typing_inspection", "PIL")
"""All that the types of Namepin's interface are made of: a type checker of a user's file needs no other library."""
EXAMPLE = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
CHECKS = """
assert any(entity.text == "Eileen Collins" and entity.groundable for entity in result.entities), result
import sys
for name, module in list(sys.modules.items()):
    file = getattr(module, "__file__", None) or ""
    home = next((part for part in HOMES if file.startswith(part)), None)
    assert not home or name == "namepin" or name.startswith("namepin."), (name, file)
print("both sides import right")
"""

OWN = "OWN = 'of this project'\n"
PROJECTS: dict[str, tuple[list[str], str, str]] = {
    # Files; what the program imports before Namepin; what it imports after.
    "packages": (
        ["tools/__init__.py", "agent/__init__.py", "graphs/__init__.py", "evals/__init__.py", "finetune/__init__.py"],
        "tools agent graphs evals finetune",
        "",
    ),
    "modules": (["tools.py", "agent.py", "graphs.py"], "", "tools agent graphs"),
    "namespace": (["tools/search.py", "agent/memory.py"], "tools.search", "agent.memory"),
    "beside_a_clone": (["tools.py"], "tools", ""),
}


@dataclass(frozen=True)
class Installed:
    """One way to install Namepin, in an environment of its own."""

    python: Path
    home: Path
    """The folder in which its modules lie."""


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository, called `namepin`, without what git ignores and without the tests."""
    target = tmp_path_factory.mktemp("import_root") / "namepin"
    left_out = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "out", "runs", "tests", "docs")
    shutil.copytree(ROOT, target, symlinks=True, ignore=left_out)
    return target


@pytest.fixture(scope="module")
def distributions(clone: Path) -> dict[str, Path]:
    """The wheel, the sdist, and the sdist's wheel."""
    folder, unpacked = clone.parent / "dist", clone.parent / "unpacked"
    build(BUILD, folder, clone)
    # What the build leaves in the clone would be a second copy of every module.
    shutil.rmtree(clone / "build")
    sdist = next(folder.glob("*.tar.gz"))
    shutil.unpack_archive(sdist, unpacked, filter="data")
    build(OF_SDIST, folder / "of_sdist", next(unpacked.iterdir()))
    wheels = {"wheel": next(folder.glob("*.whl")), "of_sdist": next(folder.glob("of_sdist/*.whl"))}
    return {**wheels, "sdist": sdist}


def build(script: str, folder: Path, source: Path) -> None:
    folder.mkdir()
    ran = subprocess.run([sys.executable, "-c", script.format(str(folder))], cwd=source, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


@pytest.fixture(scope="module")
def installed(clone: Path, distributions: dict[str, Path]) -> dict[str, Installed]:
    """Namepin in two fresh environments."""
    return {kind: install(clone, kind, distributions.get(kind, clone)) for kind in KINDS}


def install(clone: Path, kind: str, source: Path) -> Installed:
    folder = clone.parent / kind
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    site = next(folder.glob("lib/python*/site-packages"))
    # Plain paths: the `.pth` files in there, and with them this environment's own Namepin, are not read.
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (site / "libraries.pth").write_text("\n".join(shared) + "\n", "utf-8")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--no-compile", *(["-e"] if kind == "editable" else []), str(source)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return Installed(python, clone if kind == "editable" else site / "namepin")


def project(clone: Path, name: str, kind: str, homes: list[Path]) -> Path:
    """A user's project whose program is the README's example between imports of its own modules."""
    files, before, after = PROJECTS[name]
    folder = clone.parent if name == "beside_a_clone" else clone.parent / f"{name}-{kind}"
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(OWN, "utf-8")
    shutil.copytree(ROOT / "examples", folder / "examples", dirs_exist_ok=True)
    assert EXAMPLE is not None

    def own(modules: str) -> str:
        return "".join(f"import {m}\nassert {m}.OWN == 'of this project', {m}\n" for m in modules.split())

    lines = [own(before), EXAMPLE[1], own(after), f"HOMES = {[f'{home}/' for home in homes]!r}", CHECKS]
    (folder / "main.py").write_text("\n".join(lines), "utf-8")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_readme_example_beside_modules_of_same_names_runs(
    kind: str, clone: Path, installed: dict[str, Installed]
) -> None:
    homes = [installed[kind].home.resolve(), installed[kind].home]
    folders = [project(clone, name, kind, homes) for name in PROJECTS]
    runner = clone.parent / "runner" / "project_runner.py"
    runner.parent.mkdir(exist_ok=True)
    shutil.copy(ROOT / "tests" / "support" / "project_runner.py", runner)

    ran = subprocess.run(
        [str(installed[kind].python), str(runner), *map(str, folders)],
        capture_output=True,
        text=True,
        cwd=clone.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("both sides import right") == len(folders)


def test_wheel_holds_one_package_and_no_sandbox_weights(distributions: dict[str, Path]) -> None:
    names = zipfile.ZipFile(distributions["wheel"]).namelist()

    assert {name.split("/")[0] for name in names} == {"namepin", "namepin-0.1.0.dist-info"}
    assert not [name for name in names if "weights/sandbox" in name]
    for file in ("py.typed", "examples/posts.jsonl", "tools/weights/starter-tagger/adapter.safetensors"):
        assert f"namepin/{file}" in names
    assert distributions["wheel"].stat().st_size < 43e6  # the taggers of starter and base: 21 and 18 MB


def test_sdist_installs_content_of_wheel(distributions: dict[str, Path]) -> None:
    def content(wheel: Path) -> dict[str, str]:
        with zipfile.ZipFile(wheel) as file:
            return {name: hashlib.sha256(file.read(name)).hexdigest() for name in file.namelist()}

    assert content(distributions["of_sdist"]) == content(distributions["wheel"])


@pytest.mark.parametrize("package", PACKAGES)
def test_import_of_clone_folder_by_own_name_is_refused(
    package: str, clone: Path, installed: dict[str, Installed]
) -> None:
    command = [str(installed["editable"].python), "-c", f"import {package}"]

    ran = subprocess.run(command, cwd=clone, capture_output=True, text=True)

    assert ran.returncode == 1
    assert f"ImportError: this folder is the package namepin.{package}: import it under that name" in ran.stderr


WRONG = 'wrong: int = Namepin.from_profile("starter").extract("Ada").entities[0].text'
USER_FILE = f"""
from namepin import Entity, Namepin, NamepinError, Post


def names(text: str) -> list[str]:
    pin = Namepin.from_profile("starter")
    try:
        result = pin.extract(Post(id="1", text=text), image="photo.jpg")
    except NamepinError as error:
        return [error.code]
    entities: tuple[Entity, ...] = result.entities
    return [entity.text for entity in entities if entity.groundable]


{WRONG}
"""


def with_few_libraries(given: Installed, folder: Path) -> Path:
    """The interpreter of an environment with the same Namepin, and of the libraries only `TYPED`."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    site, libraries = next(folder.glob("lib/python*/site-packages")), folder / "libraries"
    libraries.mkdir()
    for name in TYPED:
        found = next(path for path in (Path(entry, name) for entry in sys.path) if path.exists())
        (libraries / name).symlink_to(found)
    for path in next(given.python.parents[1].glob("lib/python*/site-packages")).iterdir():
        if path.name == "libraries.pth":
            (site / path.name).write_text(f"{libraries}\n", "utf-8")
        elif not (site / path.name).exists():
            (site / path.name).symlink_to(path)
    return folder / "bin" / "python"


@pytest.mark.parametrize("kind", KINDS)
def test_strict_mypy_of_user_file_sees_real_types(kind: str, clone: Path, installed: dict[str, Installed]) -> None:
    file = clone.parent / f"user_{kind}.py"
    file.write_text(USER_FILE, "utf-8")
    # --disallow-any-expr: no expression of the file is Any.
    command = [sys.executable, "-m", "mypy", "--strict", "--disallow-any-expr", "--python-executable"]
    python = with_few_libraries(installed[kind], clone.parent / f"typed-{kind}")
    command += [str(python), "--config-file", "", "--cache-dir", str(clone.parent / "mypy"), file.name]

    ran = subprocess.run(command, cwd=clone.parent, capture_output=True, text=True)

    line = USER_FILE.splitlines().index(WRONG) + 1
    message = 'Incompatible types in assignment (expression has type "str", variable has type "int")  [assignment]'
    errors = [text for text in ran.stdout.splitlines() if ": error: " in text]
    assert errors == [f"{file.name}:{line}: error: {message}"], ran.stdout + ran.stderr
