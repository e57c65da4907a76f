"""From settings to running parts: the tools, the way to call them, the graph's policy."""

import os
from collections.abc import Mapping
from typing import Any

from namepin.agent.config.backends import BACKENDS
from namepin.agent.config.settings import Settings, ToolSettings
from namepin.graphs.batched_calls import BatchedCalls
from namepin.graphs.calls import LiveCalls
from namepin.graphs.policy import Policy
from namepin.tools.errors import Exit, NamepinError, install_command
from namepin.tools.llm.config import ChatConfig

SERVER_THREADS = 8
"""Requests of a batch that wait for one role's server at a time."""


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
            mend=install_command(package),
            exit_code=Exit.UNREACHABLE,
        ) from error


def build_tools(settings: Settings) -> Mapping[str, Any]:
    """All tools of the settings, by role."""
    return {role: build_tool(role, chosen) for role, chosen in settings.tools.items()}


def live_calls(settings: Settings) -> LiveCalls:
    """Calls to the tools themselves."""
    return LiveCalls(build_tools(settings))


def batched_calls(settings: Settings, most: int) -> BatchedCalls:
    """Calls for many posts: each tool in as many threads as there are cores, one that waits for a server in more.

    Args:
        settings: which tools.
        most: requests that a tool is asked at once. With 1 a result never depends on which posts happened to meet, so a
            run that was cut off and taken up again has the same bytes; with more, the last bits of a score can.
    """
    cores = cores_here()
    tools = build_tools(settings)
    waits = {role for role, chosen in settings.tools.items() if isinstance(chosen.config, ChatConfig)}
    threads = {role: SERVER_THREADS if role in waits else cores if most == 1 else 1 for role in tools}
    return BatchedCalls(tools, most=most, threads=threads)


def cores_here() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def policy(settings: Settings) -> Policy:
    """The graph's own decisions."""
    return Policy(**{name: getattr(settings, name) for name in Policy.model_fields})
