"""The command line in this process, with each set of tools built once for the whole run."""

import io
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import agent.api
import agent.build
from agent.cli.main import main
from agent.settings import Settings
from graphs.calls import LiveCalls


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


ROOT = Path(__file__).parents[2]
Cli = Callable[..., Ran]


_built: dict[str, LiveCalls] = {}


@pytest.fixture(autouse=True)
def _tools_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    real = agent.build.live_calls

    def cached(settings: Settings) -> LiveCalls:
        key = repr(settings.tools)
        if key not in _built:
            _built[key] = real(settings)
        return _built[key]

    monkeypatch.setattr(agent.api, "live_calls", cached)


@pytest.fixture(autouse=True)
def _settings_of_this_shell_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name == "NAMEPIN_PROFILE" or (name.startswith("NAMEPIN_") and "__" in name):
            monkeypatch.delenv(name)


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
