"""Shared behaviour of all steps: progress events, a trace in the state, retries, and warnings when a tool is down."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import wraps
from time import perf_counter
from typing import Any, Literal, TypeVar, cast

from langgraph.runtime import Runtime
from langgraph.types import RetryPolicy

from namepin.graphs.calls import TransientFailure
from namepin.graphs.context import Context
from namepin.tools.errors import ToolUnavailable
from namepin.tools.redaction import without_credentials
from namepin.tools.types import Notice

RETRY = RetryPolicy(max_attempts=3, initial_interval=0.5, retry_on=TransientFailure)
"""Names the exceptions, since LangGraph's default leaves out RuntimeError (a full GPU) and OSError. Tools with a server
retry by themselves, and then raise a plain `ToolUnavailable`, which is final."""

PICTURE_MISSING, TOOL_MISSING, TOOL_DOWN, ANSWER_INCOMPLETE = "W101", "W102", "W103", "W163"

DEGRADING = frozenset({PICTURE_MISSING, TOOL_DOWN, ANSWER_INCOMPLETE})
"""Warnings that make a post `degraded`: its result lacks something that its profile promises."""


@dataclass(frozen=True)
class StepEvent:
    """Progress: a step began or ended. `index` is the mention's index in the branches of a fan-out."""

    step: str
    phase: Literal["started", "finished"]
    index: int | None = None
    ms: float | None = None
    summary: str = ""


Node = TypeVar("Node", bound=Callable[..., Awaitable[dict[str, Any]]])


def step(without: str, summary: Callable[[Mapping[str, Any]], str]) -> Callable[[Node], Node]:
    """Turn a function into a node that streams its start and end, and adds its name to the state's `path`.

    A tool that is down after all attempts becomes a warning, and the post continues.

    Args:
        without: how the post continues without this step, as text for that warning.
        summary: describes the step's update in a few words.
    """

    def make(node: Node) -> Node:
        name = node.__name__

        @wraps(node)
        async def run(state: Mapping[str, Any], runtime: Runtime[Context]) -> dict[str, Any]:
            index = state.get("index")
            runtime.stream_writer(StepEvent(name, "started", index))
            began = perf_counter()
            try:
                update = await node(state, runtime)
                note = summary(update)
            except ToolUnavailable as error:
                if isinstance(error, TransientFailure) and not _is_last_attempt(runtime):
                    raise
                update, note = {"notices": [tool_down(error, without)]}, f"{error.tool} is down"
            runtime.stream_writer(StepEvent(name, "finished", index, 1000 * (perf_counter() - began), note))
            return {**update, "path": [name if index is None else f"{name}[{index}]"]}

        return cast(Node, run)

    return make


def tool_down(error: ToolUnavailable, without: str) -> dict[str, Any]:
    """The warning that a tool could not be reached, and what the result lacks because of it."""
    message = f"{error.tool}: {without_credentials(error.what)}; {without}"
    return Notice(code=TOOL_DOWN, tool=error.tool, message=message).model_dump(mode="json")


def _is_last_attempt(runtime: Runtime[Context]) -> bool:
    info = runtime.execution_info
    return info is None or info.node_attempt >= RETRY.max_attempts
