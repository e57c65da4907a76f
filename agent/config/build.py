"""Builds the parts of a run from settings: the tools, their calls, the graph's policy."""

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from namepin.agent.config.backends import BACKENDS
from namepin.agent.config.settings import Settings, ToolSettings
from namepin.graphs.batched_calls import BatchedCalls
from namepin.graphs.calls import LiveCalls
from namepin.graphs.policy import Policy
from namepin.graphs.roles import EXPANSION, RERANKER, ROLES, TAGGER
from namepin.tools.errors import Exit, NamepinError, install_command
from namepin.tools.llm.config import ChatConfig
from namepin.tools.llm.usage import Prices

_log = logging.getLogger(__name__)

On = Literal["cores", "gpu", "server"]

SERVER_THREADS = 8
"""Number of requests of a batch that wait for one role's server at a time."""
TOGETHER = 128
"""Number of posts that share tool calls; similar lengths among them share a forward pass."""
_FANNED_OUT = frozenset({RERANKER.name, EXPANSION.name})


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
    except NamepinError as error:
        names = sorted(set(_hub_names(chosen.config)))
        if error.code in _OF_WEIGHTS and names and "namepin pull" not in error.mend:
            error.mend = f"{error.mend}; `namepin pull {names[0]}` fetches or repairs it"
            error.args = (str(error),)
        raise


_OF_WEIGHTS = frozenset({"E210", "E211", "E212", "E213", "E214", "E218"})
"""Errors about files that `namepin pull` fetches."""


def _hub_names(config: BaseModel) -> Iterator[str]:
    """The weights on the hub that a tool's settings name, including nested settings."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from _hub_names(value)
        elif name == "weights" and isinstance(value, str) and value.count("/") == 1 and value[0] not in "./~":
            if not value.startswith("sandbox/") and not Path(value).exists():
                yield value


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


def batched_calls(settings: Settings, tools: Mapping[str, Any] | None = None) -> BatchedCalls:
    """Calls for many posts. Each tool has one thread per core; a tool that waits for a server has more threads.

    A tool that answers groups of posts computes in one thread, which uses all cores.

    Args:
        settings: the profile.
        tools: its tools, if they are built already.
    """
    cores, grouped = cores_here(), grouped_roles(settings)
    tools = build_tools(settings) if tools is None else tools
    waits = {role for role, chosen in settings.tools.items() if runs_on(chosen.config) == "server"}
    threads = {role: SERVER_THREADS if role in waits else 1 if role in grouped else cores for role in tools}
    return BatchedCalls(tools, grouped=grouped & tools.keys(), threads=threads)


def grouped_roles(settings: Settings) -> frozenset[str]:
    """The roles whose tools gain from the requests of several posts: the tagger, and tools on a GPU.

    A role that may be asked several times for one post is left out. So is a tagger on the CPU behind a model's server:
    its group would wait for the slowest answer, which costs more than the group saves.
    """
    grouped, behind_server = set[str](), False
    for role in (role for role in ROLES if role in settings.tools):
        on = runs_on(settings.tools[role].config)
        behind_server = behind_server or on == "server"
        if role not in _FANNED_OUT and (on == "gpu" or (role == TAGGER.name and not behind_server)):
            grouped.add(role)
    return frozenset(grouped)


def posts_per_group(settings: Settings, together: int) -> int:
    """The number of posts that share tool calls: `together`, or 1 where no tool gains from it.

    With the cache of whole results it is 1 as well: a post with a result of an earlier run would leave its group, and
    so change the last bits of the others' scores.
    """
    return together if grouped_roles(settings) and not settings.batch.cache else 1


def runs_on(config: BaseModel) -> On:
    """Where a tool of this config computes: its own `device`, or that of a nested config."""
    if isinstance(config, ChatConfig):
        return "server"
    within = [value for _, value in config if isinstance(value, BaseModel)]
    if str(getattr(config, "device", "cpu")).startswith("cuda") or any(runs_on(inner) == "gpu" for inner in within):
        return "gpu"
    return "cores"


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
