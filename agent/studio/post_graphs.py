"""The post graphs with JSON on both sides: a step before takes the post in, one after gives its `Extraction`."""

import asyncio
import json
from typing import Annotated, Any, ClassVar

from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Overwrite
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict  # pydantic wants it before Python 3.12

from namepin.agent.studio.runtime import coded_errors, studio_runtime
from namepin.graphs import gem, riveg
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
    """What a run is given."""

    post: GivenPost


class Outcome(TypedDict):
    """What a run gives."""

    extraction: dict[str, Any]
    """An `Extraction`, as `namepin extract --format json` prints it."""


class ServedState(PostState):
    """The state of a post, with the post as it came and the result as it goes."""

    post: Json | None
    """None once it was taken in: its base64 would be in every checkpoint of the thread."""

    extraction: Json | None


@dataclass(config=ConfigDict(extra="forbid"))
class Served:
    """A graph's `Context` as a client may set it; LangGraph makes one of the JSON of each run.

    Attributes:
        gamma: another threshold of the entropy gate, in nats.
    """

    gamma: Annotated[float | None, Field(ge=0, le=4)] = None

    graph: ClassVar[str] = ""
    suffix: ClassVar[str] = ""
    """Of the graph's name in fingerprints."""

    def __post_init__(self) -> None:
        """The steps' view of it: all that `Context` has."""
        self._context = studio_runtime().context(self.graph, self.gamma)

    def __getattr__(self, name: str) -> Any:
        """What `Context` has."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._context, name)


class GemContext(Served):
    """For the GEM graph."""

    graph: ClassVar[str] = "gem"


class RivegContext(Served):
    """For the RiVEG graph."""

    graph: ClassVar[str] = "riveg"


class GemReviewContext(GemContext):
    """For the GEM graph that asks a person."""

    suffix: ClassVar[str] = SUFFIX


class RivegReviewContext(RivegContext):
    """For the RiVEG graph that asks a person."""

    suffix: ClassVar[str] = SUFFIX


async def arrive(state: ServedState, runtime: Runtime[Served]) -> Json:
    """Take the post in: check it, keep its picture, and begin anew where the thread had another one before."""
    with coded_errors():
        prepared, ref = await asyncio.to_thread(studio_runtime().ready, state.get("post"))
    notices = (*prepared.notices, *studio_runtime().pin(runtime.context.graph).unused)
    fresh = start_state(prepared.post, ref, notices)
    # Assigning to a channel with a reducer would add to what the last post of the thread has left there.
    reduced = {key: Overwrite(fresh[key]) for key in ("findings", "notices", "path")}
    return {**fresh, **reduced, "post": None, "extraction": None}


async def answer(state: ServedState, runtime: Runtime[Served]) -> Json:
    """The result, as every other way into Namepin gives it."""
    context: Context = runtime.context._context
    pin = studio_runtime().pin(runtime.context.graph)
    ref = ImageRef.model_validate(state["image"]) if state["image"] else None
    post = Post(id=state["id"], text=state["text"])
    fingerprint = context.fingerprint(pin.graph.name + runtime.context.suffix)
    extraction = extraction_from(post, ref, state, fingerprint, context)
    return {"extraction": json.loads(extraction.to_json())}


def build(context: type[Served]) -> Any:
    """The compiled graph; a review graph interrupts its runs where a decision is close."""
    review = bool(context.suffix)
    module = {GraphName.gem: gem, GraphName.riveg: riveg}[GraphName(context.graph)]
    graph = StateGraph(ServedState, context_schema=context, input_schema=Arrival, output_schema=Outcome)
    graph.add_node(arrive)
    graph.add_node(answer)
    graph.add_edge(START, "arrive")
    module.wire(graph, "arrive", "answer", review=review)
    graph.add_edge("answer", END)
    return graph.compile(name=f"{context.graph}-review" if review else context.graph)
