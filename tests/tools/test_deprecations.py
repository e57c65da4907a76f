"""The deprecation warnings that reach a terminal."""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import namepin.tools.deprecations as deprecations
from namepin.agent.cli import main as cli
from namepin.tools.deprecations import hide_foreign_deprecations

OURS, FOREIGN = str(Path(deprecations.__file__).parent / "text.py"), str(Path(warnings.__file__))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What would reach the terminal."""
    messages = list[str]()
    monkeypatch.setattr(sys, "warnoptions", [])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: messages.append(str(message))  # type: ignore[assignment]
        yield messages


def warn(message: str, category: type[Warning], filename: str) -> None:
    warnings.warn_explicit(message, category, filename, 1, registry={})


@pytest.mark.parametrize("category", [DeprecationWarning, PendingDeprecationWarning, FutureWarning])
def test_deprecation_of_another_package_is_hidden(shown: list[str], category: type[Warning]) -> None:
    hide_foreign_deprecations()
    warn("theirs", category, FOREIGN)
    warn("ours", category, OURS)
    assert shown == ["ours"]


def test_other_warnings_are_shown(shown: list[str]) -> None:
    hide_foreign_deprecations()
    warn("low on memory", UserWarning, FOREIGN)
    assert shown == ["low on memory"]


def test_deprecation_is_shown_where_pythonwarnings_is_set(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", ["default"])
    hide_foreign_deprecations()
    warn("theirs", FutureWarning, FOREIGN)
    assert shown == ["theirs"]


def test_command_line_hides_foreign_deprecations(shown: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def command() -> int:
        warn("theirs", FutureWarning, FOREIGN)
        return 0

    assert isinstance(cli, ModuleType)
    monkeypatch.setattr(cli, "main", command)
    monkeypatch.setattr(cli.threading, "enumerate", list)  # a tool's thread of another test would end this process
    with pytest.raises(SystemExit):
        cli.run()
    assert shown == []
