"""The roles of the graphs: the places that a tool can fill, each with what it is asked and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from namepin.tools.interfaces import (
    Caption,
    CaptionRequest,
    Entailments,
    EntailRequest,
    Examples,
    ExamplesRequest,
    ExpandRequest,
    Expansion,
    Groundings,
    GroundRequest,
    Knowledge,
    KnowledgeRequest,
    Matches,
    MatchRequest,
    Reranked,
    RerankRequest,
    SegmentRequest,
    Segments,
    TagRequest,
    Tags,
    TraceRequest,
    Traces,
)
from namepin.tools.types import Frozen

Q = TypeVar("Q", bound=Frozen)
R = TypeVar("R", bound=Frozen)


@dataclass(frozen=True)
class Role(Generic[Q, R]):
    """A place in the graph that a tool can fill.

    Attributes:
        name: its name in profiles, timings, provenance.
        request: what it is asked.
        result: what whoever fills it answers with.
        items: the request's and the result's field that run in parallel, where each item is answered for itself and
            the batch only saves encoding the picture again; so a part of a recorded batch is as good as a call. Not
            so for the matcher: one that works by regions gives each of them to one name.
    """

    name: str
    request: type[Q]
    result: type[R]
    items: tuple[str, str] | None = None


CAPTIONER = Role("captioner", CaptionRequest, Caption)
EXAMPLES = Role("examples", ExamplesRequest, Examples)
KNOWLEDGE = Role("knowledge", KnowledgeRequest, Knowledge)
TAGGER = Role("tagger", TagRequest, Tags)
RERANKER = Role("reranker", RerankRequest, Reranked)
MATCHER = Role("matcher", MatchRequest, Matches)
TRACER = Role("tracer", TraceRequest, Traces, items=("queries", "traces"))
DESCRIBER = Role("describer", CaptionRequest, Caption)
EXPANSION = Role("expansion", ExpandRequest, Expansion)
ENTAILMENT = Role("entailment", EntailRequest, Entailments, items=("queries", "entailments"))
GROUNDER = Role("grounder", GroundRequest, Groundings, items=("queries", "groundings"))
SEGMENTER = Role("segmenter", SegmentRequest, Segments, items=("prompts", "segments"))

ROLES: Mapping[str, Role[Any, Any]] = MappingProxyType(
    {
        role.name: role
        for role in (
            CAPTIONER,
            EXAMPLES,
            KNOWLEDGE,
            TAGGER,
            RERANKER,
            MATCHER,
            TRACER,
            DESCRIBER,
            EXPANSION,
            ENTAILMENT,
            GROUNDER,
            SEGMENTER,
        )
    }
)
