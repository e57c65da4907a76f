"""Tools built once for the whole run, whichever test asks first: their weights are read once."""

from pathlib import Path
from typing import Any

import pytest

from namepin.agent import api
from namepin.agent.config import build as build_module
from namepin.agent.config.settings import Settings, ToolSettings
from namepin.graphs.calls import LiveCalls
from namepin.tools.llm.config import ChatConfig

_built: dict[str, LiveCalls] = {}
_tools: dict[str, Any] = {}


def build_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give later builders of the same settings the same tools, but for those that ask a server: it is one test's."""
    real, build = build_module.live_calls, build_module.build_tool

    def built(role: str, chosen: ToolSettings) -> Any:
        if isinstance(chosen.config, ChatConfig):
            return build(role, chosen)
        key = f"{role} {Path.cwd()} {chosen!r}"
        if key not in _tools:
            _tools[key] = build(role, chosen)
        return _tools[key]

    def cached(settings: Settings) -> LiveCalls:
        if any(isinstance(chosen.config, ChatConfig) for chosen in settings.tools.values()):
            return real(settings)
        key = f"{Path.cwd()} {settings.tools!r}"
        if key not in _built:
            _built[key] = real(settings)
        return _built[key]

    monkeypatch.setattr(api, "live_calls", cached)
    monkeypatch.setattr(build_module, "build_tool", built)
