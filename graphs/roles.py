"""The roles of the graphs. A tool fills a role; the role fixes its request and result types."""

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
    Extracted,
    ExtractRequest,
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
    """A role in a graph that a tool can fill.

    Attributes:
        name: its name in profiles, timings, provenance.
        request: type of the requests.
        result: type of the results.
        items: names of the request's and the result's lists, if the tool answers each item independently. Replay may
            then answer a request from a part of a recorded batch. The matcher has none: a matcher that works by regions
            assigns each region to one mention, so its items depend on each other.
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
EXTRACTOR = Role("extractor", ExtractRequest, Extracted)
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
            EXTRACTOR,
            SEGMENTER,
        )
    }
)
