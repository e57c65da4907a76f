"""All graphs by their name in profiles, and the roles of each graph."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from namepin.graphs import fallback, gem, mllm, riveg
from namepin.graphs.names import GEM_MLLM, GraphName
from namepin.graphs.roles import (
    CAPTIONER,
    DESCRIBER,
    ENTAILMENT,
    EXAMPLES,
    EXPANSION,
    EXTRACTOR,
    GROUNDER,
    KNOWLEDGE,
    MATCHER,
    RERANKER,
    SEGMENTER,
    TAGGER,
    TRACER,
)
from namepin.graphs.text_nodes import Graph

GRAPHS: Mapping[str, Callable[..., Graph]] = MappingProxyType(
    {GraphName.gem: gem.build, GraphName.riveg: riveg.build, GraphName.mllm: mllm.build, GEM_MLLM: fallback.build}
)

_TEXTUAL = (CAPTIONER, KNOWLEDGE, TAGGER, RERANKER)
_ROLES = {
    GraphName.gem: (*_TEXTUAL, MATCHER, TRACER, SEGMENTER),
    GraphName.riveg: (*_TEXTUAL, EXAMPLES, DESCRIBER, EXPANSION, ENTAILMENT, GROUNDER, SEGMENTER),
    GraphName.mllm: (EXTRACTOR, SEGMENTER),
    GEM_MLLM: (CAPTIONER, KNOWLEDGE, TAGGER, MATCHER, TRACER, EXTRACTOR, SEGMENTER),
}
ROLES_OF: Mapping[str, frozenset[str]] = MappingProxyType(
    {graph: frozenset(role.name for role in roles) for graph, roles in _ROLES.items()}
)
"""Graph's name -> the roles that its steps call."""

LOOKERS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        GraphName.gem: frozenset({MATCHER.name}),
        GraphName.riveg: frozenset({ENTAILMENT.name, GROUNDER.name}),
        GraphName.mllm: frozenset({EXTRACTOR.name}),
        GEM_MLLM: frozenset({MATCHER.name, EXTRACTOR.name}),
    }
)
"""Graph's name -> the roles that decide whether a name is in the picture; one of them is enough."""
