"""Makes a graph of its steps and arrows, which each graph's own module wires."""

from typing import Any, Protocol

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph

from namepin.graphs.context import Context
from namepin.graphs.review_nodes import SUFFIX
from namepin.graphs.state import PostState
from namepin.graphs.text_nodes import Graph


class Wire(Protocol):
    """Puts steps and arrows into a graph."""

    def __call__(self, graph: "StateGraph[Any, Any, Any, Any]", *, review: bool) -> None:
        """Wire it, with the steps that ask a person where `review` says so."""
        ...


def compile_graph(name: str, wire: Wire, checkpointer: BaseCheckpointSaver[Any] | None, *, review: bool) -> Graph:
    """The compiled graph; one serves any number of posts at once. Pass it a `Context` on every run.

    A graph with `review` needs a checkpointer: its runs may wait for a person.
    """
    graph = StateGraph(PostState, context_schema=Context)
    wire(graph, review=review)
    return graph.compile(checkpointer=checkpointer, name=name + SUFFIX if review else name)
