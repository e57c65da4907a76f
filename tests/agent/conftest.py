"""The command line in this process, with each set of tools built once for the whole run."""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from namepin.agent.cli.main import main
from support.built_once import build_once
from support.cli import Cli, Ran
from support.paths import ROOT


@pytest.fixture(autouse=True)
def _tools_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    build_once(monkeypatch)


@pytest.fixture(autouse=True)
def _settings_of_this_shell_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name == "NAMEPIN_PROFILE" or (name.startswith("NAMEPIN_") and "__" in name):
            monkeypatch.delenv(name)


STUDIO = Path(sys.prefix, "studio", "bin", "langgraph")
ADD_STUDIO = "no LangGraph server: make .venv/.studio"


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `langgraph dev` with this project's `langgraph.json`, for the tests of one file."""
    from support.processes import environment, free_port, running

    if not STUDIO.exists():
        assert not os.environ.get("NAMEPIN_REQUIRE_SYSTEM"), ADD_STUDIO
        pytest.skip(ADD_STUDIO)
    folder, port = tmp_path_factory.mktemp("studio"), free_port()
    flags = ["--config", str(ROOT / "langgraph.json"), "--no-browser", "--no-reload", "--port", str(port)]
    quiet = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGSMITH_TRACING": "false"}
    close = {"NAMEPIN_REVIEW__MATCH_MARGIN": "1"}  # the graphs that ask then ask about every match
    env = environment(NAMEPIN_DATA_DIR=str(folder / "data"), **quiet, **close)
    with running([str(STUDIO), "dev", *flags], port, folder / "log", env, folder) as address:
        yield address


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Cli]:
    """`cli("extract", "-", stdin=b"...")` runs a command."""

    def run(*arguments: str | Path, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        sys.stderr.flush()
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    yield run
