"""The requests and results of every tool, neural or not: what the graph sends, what a cassette records.

Requests hold small serialisable values only. A picture is its `ImageRef`; the pixels travel in `Media`. Where several
mentions ask about one picture they share one request, so that a tool encodes the picture once.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from tools.base import Tool
from tools.types import Box, Frozen, ImageRef, Mask, Mention, Notice, Point

Kind = Literal["face", "body", "text", "object"]
"""What a matched region shows, so that tracer and segmenter can treat a person and a headline differently."""


class CaptionRequest(Frozen):
    """Describe a picture."""

    image: ImageRef


class Caption(Frozen):
    """One sentence about a picture."""

    text: str
    notices: tuple[Notice, ...] = ()


class KnowledgeRequest(Frozen):
    """Explain a post (GEM section 3.2.1): its text and, where a captioner ran, its picture's caption."""

    text: str
    caption: str | None = None


class Knowledge(Frozen):
    """Auxiliary knowledge, with the prompt style it was written in (an adapter trained on another style warns)."""

    text: str
    style: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    notices: tuple[Notice, ...] = ()


class TagRequest(Frozen):
    """Find the mentions of a post. Without `tokens`, `text` is tokenised as a tweet."""

    text: str
    tokens: tuple[str, ...] | None = None
    knowledge: str | None = None
    knowledge_style: str | None = None


class Tags(Frozen):
    """The post's tokens, its mentions in text order, and what the tagger had to say about the input."""

    tokens: tuple[str, ...]
    mentions: tuple[Mention, ...]
    notices: tuple[Notice, ...] = ()


class RerankRequest(Frozen):
    """Choose one of `candidates` for the mention at `token_span` (GEM section 3.3.2, Table 7)."""

    text: str
    tokens: tuple[str, ...]
    token_span: tuple[int, int]
    candidates: Annotated[tuple[str, ...], Field(min_length=1)]
    hint: Mapping[str, float] | None = None
    image: ImageRef | None = None
    caption: str | None = None


class Reranked(Frozen):
    """The chosen candidate, and each candidate's probability where the decoder gives one."""

    label: str
    scores: Mapping[str, float] = Field(default_factory=dict)
    notices: tuple[Notice, ...] = ()


class Query(Frozen):
    """A mention as the visual tools see it: `category` is the fine label where there is one, else the coarse one."""

    text: str
    label: str
    category: str


class MatchRequest(Frozen):
    """Is each mention in the picture (GEM section 3.4.1)?"""

    image: ImageRef
    text: str
    queries: tuple[Query, ...]


class Match(Frozen):
    """P_T of one mention; a matcher that works by regions also says which, what it shows, and why, in words."""

    score: Annotated[float, Field(ge=0, le=1)]
    region: Box | None = None
    kind: Kind | None = None
    evidence: str | None = None
    ambiguous: bool = False


class Matches(Frozen):
    """One `Match` a query, in the request's order."""

    matches: tuple[Match, ...]
    notices: tuple[Notice, ...] = ()


class TraceQuery(Frozen):
    """A groundable mention, with the matcher's region where it gave one."""

    query: Query
    region: Box | None = None
    kind: Kind | None = None


class TraceRequest(Frozen):
    """Where in the picture did the match come from (GEM section 3.4.2)?"""

    image: ImageRef
    queries: tuple[TraceQuery, ...]


class Trace(Frozen):
    """The point of highest importance, and the heat map's blob key (`tools.heat`) where there is a map.

    The peak is None where the map is empty: no part of the picture spoke for the match.
    """

    peak: Point | None
    heat: str | None = None


class Traces(Frozen):
    """One `Trace` a query, in the request's order."""

    traces: tuple[Trace, ...]
    notices: tuple[Notice, ...] = ()


class SegmentPrompt(Frozen):
    """What to segment: a point (GEM) and/or a box (RiVEG), and the category as text (SEEM)."""

    query: Query
    peak: Point | None = None
    box: Box | None = None
    kind: Kind | None = None


class SegmentRequest(Frozen):
    """Masks for several prompts in one picture (GEM section 3.4.3)."""

    image: ImageRef
    prompts: tuple[SegmentPrompt, ...]


class Segment(Frozen):
    """A mask and its box; both None where nothing could be segmented."""

    mask: Mask | None = None
    box: Box | None = None
    score: float | None = None


class Segments(Frozen):
    """One `Segment` a prompt, in the request's order."""

    segments: tuple[Segment, ...]
    notices: tuple[Notice, ...] = ()


Captioner = Tool[CaptionRequest, Caption]
KnowledgeTool = Tool[KnowledgeRequest, Knowledge]
Tagger = Tool[TagRequest, Tags]
Reranker = Tool[RerankRequest, Reranked]
Matcher = Tool[MatchRequest, Matches]
Tracer = Tool[TraceRequest, Traces]
Segmenter = Tool[SegmentRequest, Segments]
