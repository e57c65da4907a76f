"""Compiles a graph. Each graph's own module adds the steps and edges."""

from typing import Any, Protocol

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph

from namepin.graphs.context import Context
from namepin.graphs.review_nodes import SUFFIX
from namepin.graphs.state import PostState
from namepin.graphs.text_nodes import Graph


class Wire(Protocol):
    """Adds steps and edges to a graph."""

    def __call__(self, graph: "StateGraph[Any, Any, Any, Any]", *, review: bool) -> None:
        """Add the steps and edges; with `review`, also the steps that ask a person."""
        ...


def compile_graph(name: str, wire: Wire, checkpointer: BaseCheckpointSaver[Any] | None, *, review: bool) -> Graph:
    """The compiled graph. One graph serves any number of posts at once. Pass it a `Context` on every run.

    A graph with `review` needs a checkpointer: its runs may wait for a person.
    """
    graph = StateGraph(PostState, context_schema=Context)
    wire(graph, review=review)
    return graph.compile(checkpointer=checkpointer, name=name + SUFFIX if review else name)
