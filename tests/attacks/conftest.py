"""Tools of attacks, built once."""

import pytest

from support.built_once import build_once


@pytest.fixture(autouse=True)
def _tools_are_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    build_once(monkeypatch)
