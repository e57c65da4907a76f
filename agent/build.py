"""From settings to running parts: the tools, the way to call them, the graph's policy."""

from collections.abc import Mapping
from typing import Any

from agent.backends import BACKENDS
from agent.settings import Settings, ToolSettings
from graphs.calls import LiveCalls
from graphs.context import Policy
from tools.errors import Exit, NamepinError


def build_tool(role: str, chosen: ToolSettings) -> Any:
    """One tool, its weights loaded.

    Raises:
        NamepinError: E301 when a package it needs is not installed; whatever the tool raises on missing weights.
    """
    backend = BACKENDS[role][chosen.backend]
    try:
        return backend.build(chosen.config)
    except ModuleNotFoundError as error:
        package = f"namepin[{backend.extra}]" if backend.extra else str(error.name)
        raise NamepinError(
            "E301",
            f"{role} {chosen.backend!r} needs the package {error.name!r}",
            where=f"{role}.backend",
            mend=f"pip install '{package}'",
            exit_code=Exit.UNREACHABLE,
        ) from error


def build_tools(settings: Settings) -> Mapping[str, Any]:
    """All tools of the settings, by role."""
    return {role: build_tool(role, chosen) for role, chosen in settings.tools.items()}


def live_calls(settings: Settings) -> LiveCalls:
    """Calls to the tools themselves."""
    return LiveCalls(build_tools(settings))


def policy(settings: Settings) -> Policy:
    """The graph's own decisions."""
    return Policy(gate=settings.gate, match=settings.match, expression=settings.expression, mask=settings.mask)
