"""The state that walks through a graph: small JSON values only, so that any checkpointer and any cassette can hold it.

Domain objects are kept as their JSON dumps (`model_dump(mode="json")`), never as pydantic objects: LangGraph's
serialiser would store those by class path, and a picture or an array would not survive it at all.
"""

from collections.abc import Iterable
from typing import Annotated, Any, Required, TypedDict

from namepin.tools.types import ImageRef, Mention, Notice, Post

Json = dict[str, Any]


class Finding(TypedDict, total=False):
    """What the graph has found out about one mention so far; each step adds its own fields."""

    index: Required[int]
    """The mention's index: findings are merged by it."""

    near_gamma: bool
    candidates: list[str]
    """From the gate; empty where the tagger's label stands."""

    label: str
    fine_label: str | None
    """From the reranker, where it ran."""

    match: Json
    groundable: bool
    """From the matcher: a `Match`, and whether its score reaches the policy's threshold."""

    peak: list[int] | None
    heat: str | None
    """From the tracer: (x, y) in the upright picture, and the heat map's blob key."""

    segment: Json
    """From the segmenter: a `Segment`."""

    expansion: str
    """From the expansion tool, where it was asked about this mention."""

    entailment: Json
    """From the entailment tool: an `Entailment`."""

    grounded: Json
    """From the grounder: a `Grounded`."""

    answered: list[str]
    """What a person decided: `label`, `place`."""


def merge_findings(left: list[Finding], right: list[Finding]) -> list[Finding]:
    """Union by mention index, in index order, whatever order parallel branches finish in."""
    merged = {finding["index"]: finding for finding in left}
    for finding in right:
        known = merged.get(finding["index"])
        merged[finding["index"]] = {**known, **finding} if known else finding
    return [merged[index] for index in sorted(merged)]


def extend(left: list[Any], right: list[Any]) -> list[Any]:
    """Append; LangGraph hands the branches of one fan-out over in the order they were sent."""
    return left + right


class PostState(TypedDict, total=False):
    """One post on its way through the graph."""

    id: str

    text: str

    tokens: list[str] | None
    """The post's own tokens, then the tagger's."""

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
    """The tagger's `Mention`s, as they were tagged; what later steps find is in `findings`."""

    findings: Annotated[list[Finding], merge_findings]

    notices: Annotated[list[Json], extend]
    """`Notice`s in the order of the steps; `assemble` drops repetitions."""

    path: Annotated[list[str], extend]
    """The steps taken: `tag`, `gate`, `rerank[2]`, ..."""

    entities: list[Json]
    """The `Entity`s of the result."""

    status: str


class RerankTask(TypedDict):
    """What one branch of the rerank fan-out is sent: a mention's index and its `RerankRequest`."""

    index: int
    request: Json


class ExpandTask(TypedDict):
    """What one branch of the expansion fan-out is sent: a mention's index and its `ExpandRequest`."""

    index: int
    request: Json


def start_state(post: Post, image: ImageRef | None, notices: Iterable[Notice] = ()) -> PostState:
    """The state a post begins with; `notices` are those of loading it (a missing picture, say)."""
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
