"""`make lock-check`: the lock fits pyproject.toml, and a lock that does not is refused."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def lock() -> ModuleType:
    spec = importlib.util.spec_from_file_location("lock", ROOT / ".ci" / "lock.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def demo(lock: ModuleType) -> str:
    return str((lock.FOLDER / "demo.txt").read_text("utf-8"))


def test_lock_of_repository_fits_pyproject(lock: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert lock.check() == 0
    assert "the lock is the one of pyproject.toml" in capsys.readouterr().out


def test_lock_without_new_dependency_is_refused(lock: ModuleType, demo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table = lock.project()
    table["dependencies"] = [*table["dependencies"], "left-pad>=1"]
    monkeypatch.setattr(lock, "project", lambda: table)

    found = lock.problems("demo", demo)

    assert any("run `make lock KEEP=1`" in line for line in found) and "left-pad is missing" in found


def test_lock_with_version_out_of_range_is_refused(lock: ModuleType, demo: str) -> None:
    pin = next(line for line in demo.splitlines() if line.startswith("transformers=="))

    assert any(
        line.startswith("transformers 4.0 is not ")
        for line in lock.problems("demo", demo.replace(pin, "transformers==4.0 \\"))
    )


@pytest.mark.parametrize("line", ["torch==2.13.0", "nvidia-cublas==13.4.1.3"])
def test_lock_with_pytorch_or_cuda_is_refused(lock: ModuleType, demo: str, line: str) -> None:
    found = lock.problems("demo", f"{demo}{line} \\\n    --hash=sha256:{'0' * 64}\n")

    assert f"{line.split('==')[0]} does not belong here" in found


@pytest.mark.parametrize("line", ["left-pad==1.0", "left-pad>=1.0", "--index-url https://example.org/simple"])
def test_lock_line_without_hash_is_refused(lock: ModuleType, demo: str, line: str) -> None:
    assert f"no exact version with hashes: {line}" in lock.problems("demo", f"{demo}{line}\n")


def test_lock_without_common_marker_keeps_other_markers(lock: ModuleType) -> None:
    common = "python_full_version < '3.15' and (sys_platform == 'darwin')"
    other = "python_full_version < '3.12' and (sys_platform == 'darwin')"
    text = "".join(
        f"{name}==1 ; {marker} \\\n    --hash=sha256:0\n"
        for name, marker in zip("abc", [common, common, other], strict=True)
    )

    assert lock.without_common_marker(text).splitlines()[::2] == [
        "a==1 \\", "b==1 \\", "c==1 ; python_full_version < '3.12' \\",
    ]  # fmt: skip
