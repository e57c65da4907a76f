"""The state of a graph: small JSON values only, so that any checkpointer and any cassette can hold it.

Domain objects are stored as JSON dumps (`model_dump(mode="json")`), never as pydantic objects. LangGraph's serialiser
would store pydantic objects by class path, and could not store a picture or an array at all.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Required, TypedDict

from namepin.tools.types import ImageRef, Mention, Notice, Post

Json = dict[str, Any]


class Finding(TypedDict, total=False):
    """The findings about one mention so far. Each step adds its own fields."""

    index: Required[int]
    """The mention's index, by which findings are merged."""

    near_gamma: bool
    candidates: list[str]
    """From the gate; empty if the tagger's label is final."""

    label: str
    fine_label: str | None
    """From the reranker, if it ran."""

    match: Json
    groundable: bool | None
    """From the matcher: a `Match`, and whether its score reaches the policy's threshold; None where it cannot tell."""

    peak: list[int] | None
    heat: str | None
    """From the tracer: (x, y) in the upright picture, and the heat map's blob key."""

    segment: Json
    """From the segmenter: a `Segment`."""

    expansion: str
    """From the expansion tool, if this mention was expanded."""

    entailment: Json
    """From the entailment tool: an `Entailment`."""

    grounded: Json
    """From the grounder: a `Grounded`."""

    unsure: list[str]
    """From the doubts before the one model: `type`, `place`."""

    place: Json
    """From the extractor: a `Place`."""

    answered: list[str]
    """The decisions that a person made: `label`, `place`."""


def merge_findings(left: list[Finding], right: list[Finding]) -> list[Finding]:
    """Merge by mention index, in index order. The order in which parallel branches finish does not matter."""
    merged = {finding["index"]: finding for finding in left}
    for finding in right:
        known = merged.get(finding["index"])
        merged[finding["index"]] = {**known, **finding} if known else finding
    return [merged[index] for index in sorted(merged)]


def extend(left: list[Any], right: list[Any]) -> list[Any]:
    """Append. LangGraph delivers the branches of one fan-out in the order in which they were sent."""
    return left + right


class PostState(TypedDict, total=False):
    """One post on its way through the graph."""

    id: str

    text: str

    tokens: list[str] | None
    """The post's own tokens; after `tag`, the tagger's."""

    image: Json | None
    """An `ImageRef`; the path and the pixels stay in the context."""

    caption: str | None

    examples: list[Json]
    """The annotated samples for the knowledge prompt: `Example`s."""

    background: str | None
    """The detailed description of the picture, for the expansions."""

    knowledge: Json | None
    """A `Knowledge`, without its notices."""

    mentions: list[Json]
    """The tagger's `Mention`s, unchanged; the results of later steps are in `findings`."""

    findings: Annotated[list[Finding], merge_findings]

    consulted: Json
    """The answer of the one model behind the gate, and its masks by the mention's number; absent where not asked."""

    notices: Annotated[list[Json], extend]
    """`Notice`s in the order of the steps; `assemble` drops duplicates."""

    path: Annotated[list[str], extend]
    """The steps taken: `tag`, `gate`, `rerank[2]`, ..."""

    entities: list[Json]
    """The `Entity`s of the result."""

    status: str


class RerankTask(TypedDict):
    """The input of one branch of the rerank fan-out: a mention's index and its `RerankRequest`."""

    index: int
    request: Json


class ExpandTask(TypedDict):
    """The input of one branch of the expansion fan-out: a mention's index and its `ExpandRequest`."""

    index: int
    request: Json


def start_state(post: Post, image: ImageRef | None, notices: Iterable[Notice] = ()) -> PostState:
    """The start state of a post. `notices` are the warnings of loading it, such as a missing picture."""
    return PostState(
        id=post.id,
        text=post.text,
        tokens=list(post.tokens) if post.tokens is not None else None,
        image=image.model_dump(mode="json") if image else None,
        caption=None,
        examples=[],
        background=None,
        knowledge=None,
        mentions=[],
        findings=[],
        notices=[notice.model_dump(mode="json") for notice in notices],
        path=[],
        entities=[],
        status="ok",
    )


def image_of(state: PostState) -> ImageRef:
    """The picture of a post that has one."""
    return ImageRef.model_validate(state["image"])


def mentions_of(state: PostState) -> list[Mention]:
    """The tagger's mentions, in text order."""
    return [Mention.model_validate(row) for row in state["mentions"]]
