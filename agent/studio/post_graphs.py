"""The post graphs with JSON input and output: a first step reads the post, a last step returns its `Extraction`."""

import asyncio
import json
from typing import Annotated, Any, ClassVar

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Overwrite
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict  # pydantic requires it before Python 3.12

from namepin.agent.studio.runtime import coded_errors, studio_runtime
from namepin.graphs import fallback, gem, mllm, riveg
from namepin.graphs.context import Context
from namepin.graphs.names import GraphName
from namepin.graphs.review_nodes import SUFFIX
from namepin.graphs.run import extraction_from
from namepin.graphs.state import Json, PostState, start_state
from namepin.tools.types import ImageRef, Post


class GivenPost(TypedDict, total=False):
    """A post: `text` or `tokens`."""

    id: str
    text: str
    tokens: list[str]
    image: str
    """The picture: base64 of the file's bytes."""


class Arrival(TypedDict):
    """The input of a run."""

    post: GivenPost


class Outcome(TypedDict):
    """The output of a run."""

    extraction: dict[str, Any]
    """An `Extraction`, as `namepin extract --format json` prints it."""


class ServedState(PostState):
    """The state of a post, with its input and its output."""

    post: Json | None
    """None after the first step: its base64 would otherwise be in every checkpoint of the thread."""

    extraction: Json | None


@dataclass(config=ConfigDict(extra="forbid"))
class ClientContext:
    """A graph's `Context` as a client may set it; LangGraph builds it from the JSON of each run.

    Attributes:
        gamma: another threshold of the entropy gate, in nats.
    """

    gamma: Annotated[float | None, Field(ge=0, le=4)] = None

    graph: ClassVar[str] = ""
    suffix: ClassVar[str] = ""
    """The graph's name in fingerprints."""

    def __post_init__(self) -> None:
        """The `Context` for the steps."""
        self._context = studio_runtime().context(self.graph, self.gamma)

    def __getattr__(self, name: str) -> Any:
        """The fields of `Context`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._context, name)


class GemContext(ClientContext):
    """Context of the GEM graph."""

    graph: ClassVar[str] = "gem"


class RivegContext(ClientContext):
    """Context of the RiVEG graph."""

    graph: ClassVar[str] = "riveg"


class MllmContext(ClientContext):
    """Context of the graph with one model."""

    graph: ClassVar[str] = "mllm"


class GemReviewContext(GemContext):
    """Context of the GEM graph that asks a person."""

    suffix: ClassVar[str] = SUFFIX


class RivegReviewContext(RivegContext):
    """Context of the RiVEG graph that asks a person."""

    suffix: ClassVar[str] = SUFFIX


class MllmReviewContext(MllmContext):
    """Context of the graph with one model that asks a person."""

    suffix: ClassVar[str] = SUFFIX


async def arrive(state: ServedState, runtime: Runtime[ClientContext]) -> Json:
    """Read the post: check it, store its picture, and reset a thread that had another post before."""
    with coded_errors():
        prepared, ref = await asyncio.to_thread(studio_runtime().ready, state.get("post"))
    notices = (*prepared.notices, *studio_runtime().pin(runtime.context.graph).unused)
    fresh = start_state(prepared.post, ref, notices)
    # Assigning to a channel with a reducer would add to the values of the thread's last post.
    reduced = {key: Overwrite(fresh[key]) for key in ("findings", "notices", "path")}
    return {**fresh, **reduced, "post": None, "extraction": None}


async def answer(state: ServedState, runtime: Runtime[ClientContext]) -> Json:
    """The result, in the same form as everywhere in Namepin."""
    context: Context = runtime.context._context
    pin = studio_runtime().pin(runtime.context.graph)
    ref = ImageRef.model_validate(state["image"]) if state["image"] else None
    post = Post(id=state["id"], text=state["text"])
    fingerprint = context.fingerprint(pin.graph.name + runtime.context.suffix)
    extraction = extraction_from(post, ref, state, fingerprint, context)
    return {"extraction": json.loads(extraction.to_json())}


def build(context: type[ClientContext]) -> Any:
    """The compiled graph; a review graph interrupts its runs at close decisions."""
    review = bool(context.suffix)
    if studio_runtime().pin(context.graph).settings.fallback:
        wire = fallback.wire
    else:
        wire = {GraphName.gem: gem, GraphName.riveg: riveg, GraphName.mllm: mllm}[GraphName(context.graph)].wire
    graph = StateGraph(ServedState, context_schema=context, input_schema=Arrival, output_schema=Outcome)
    graph.add_node(arrive)
    graph.add_node(answer)
    graph.add_edge(START, "arrive")
    wire(graph, "arrive", "answer", review=review)
    graph.add_edge("answer", END)
    return graph.compile(name=f"{context.graph}-review" if review else context.graph)
