"""Builds the parts of a run from settings: the tools, their calls, the graph's policy."""

import logging
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
from namepin.tools.llm.usage import Prices

_log = logging.getLogger(__name__)

SERVER_THREADS = 8
"""Number of requests of a batch that wait for one role's server at a time."""


def build_tool(role: str, chosen: ToolSettings) -> Any:
    """One tool, with its weights loaded.

    Raises:
        NamepinError: E301 when a package of the tool is not installed; any error of the tool about its weights.
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
    """All tools of the settings by role. A tracer of another net than the matcher's is warned of (W137)."""
    if line := other_net(settings):
        _log.warning(line)
    return {role: build_tool(role, chosen) for role, chosen in settings.tools.items()}


def other_net(settings: Settings) -> str:
    """The warning about a tracer that explains another net than the matcher's; empty where it is the same."""
    matcher, tracer = settings.tools.get("matcher"), settings.tools.get("tracer")
    if matcher is None or tracer is None or tracer.backend not in BACKENDS["matcher"]:
        return ""  # the starter's tracer shows the matcher's own region
    nets = [getattr(tool.config, tool.backend, None) for tool in (matcher, tracer)]
    named = [" + ".join(filter(None, (getattr(net, "weights", None), getattr(net, "adapter", None)))) for net in nets]
    if matcher.backend == tracer.backend and named[0] == named[1]:
        return ""
    what = f"the matcher is {matcher.backend} {named[0]}, and the tracer explains {tracer.backend} {named[1]}"
    return f"W137: {what}; leave tracer.{tracer.backend}.weights out to explain the matcher"


def live_calls(settings: Settings) -> LiveCalls:
    """Direct calls to the tools."""
    return LiveCalls(build_tools(settings))


def batched_calls(settings: Settings, most: int) -> BatchedCalls:
    """Calls for many posts. Each tool has one thread per core; a tool that waits for a server has more threads.

    Args:
        settings: the profile.
        most: number of requests that a tool gets at once. With 1, a result never depends on the other posts, so a
            resumed run writes the same bytes. With more, the last bits of a score may differ.
    """
    cores = cores_here()
    tools = build_tools(settings)
    waits = {role for role, chosen in settings.tools.items() if isinstance(chosen.config, ChatConfig)}
    threads = {role: SERVER_THREADS if role in waits else cores if most == 1 else 1 for role in tools}
    return BatchedCalls(tools, most=most, threads=threads)


def cores_here() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def policy(settings: Settings) -> Policy:
    """The graph's thresholds."""
    return Policy(**{name: getattr(settings, name) for name in Policy.model_fields})


def prices(settings: Settings) -> Prices:
    """The prices of tokens that the profile names."""
    told = settings.estimate
    return Prices(told.million_prompt_tokens, told.million_completion_tokens, told.currency)
