"""The command that an error names installs into the environment that runs."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from namepin.tools.errors import install_command


def test_install_command_names_running_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert shlex.split(install_command("left-pad>=1", "--no-deps")) == [
        sys.executable, "-m", "pip", "install", "--no-deps", "left-pad>=1",
    ]  # fmt: skip


def test_install_command_inside_folder_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my env" / "bin" / "python"))

    assert install_command("namepin[serve]") == "'my env/bin/python' -m pip install 'namepin[serve]'"


def test_install_command_of_extra_needs_no_registry_for_namepin() -> None:
    command = install_command("namepin[llm]", "--no-index", "--dry-run", "--no-deps")

    ran = subprocess.run(command, shell=True, capture_output=True, text=True)

    assert ran.returncode == 0 and "Requirement already satisfied: namepin[llm]" in ran.stdout, ran.stderr
