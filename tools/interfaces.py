"""The request and result types of every tool. The graph sends them, and a cassette records them.

Requests hold only small serialisable values. A picture is an `ImageRef`; its pixels are in `Media`. All mentions of a
picture share one request, so that a tool encodes the picture once.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from namepin.tools.base import Tool
from namepin.tools.types import Box, Frozen, ImageRef, Mask, Mention, Notice, Point

Kind = Literal["face", "body", "text", "object"]
"""The kind of a matched region. Tracer and segmenter treat a person and printed words differently."""


Sight = Literal["faces", "words", "objects"]
"""What a matcher can see. A matcher with the attribute `sees` sees only that; one without it sees everything."""


class CaptionRequest(Frozen):
    """Describe a picture."""

    image: ImageRef


class Caption(Frozen):
    """One sentence about a picture."""

    text: str
    notices: tuple[Notice, ...] = ()


class ExamplesRequest(Frozen):
    """Find the annotated samples most similar to this post (RiVEG section IV-B1b), without the sample `id` itself."""

    id: str
    text: str
    image: ImageRef | None = None


class Example(Frozen):
    """An annotated sample for the language model's prompt. `similarity` is the cosine, where it was computed."""

    id: str
    text: str
    caption: str | None = None
    annotation: str
    similarity: float | None = None


class Examples(Frozen):
    """The chosen samples, in the order in which the prompt shows them."""

    examples: tuple[Example, ...] = ()
    notices: tuple[Notice, ...] = ()


class KnowledgeRequest(Frozen):
    """Explain a post (GEM section 3.2.1, RiVEG section IV-B1c).

    The request holds its text, the picture's caption where a captioner ran, and annotated samples where there are any.
    """

    text: str
    caption: str | None = None
    examples: tuple[Example, ...] = ()


class Knowledge(Frozen):
    """Auxiliary knowledge and its prompt style. An adapter trained on another style gives a warning."""

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
    """The post's tokens, its mentions in text order, and warnings about the input."""

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
    """A mention as input of the visual tools. `category` is the fine label if there is one, else the coarse label."""

    text: str
    label: str
    category: str


class MatchRequest(Frozen):
    """Decide for each mention whether it is in the picture (GEM section 3.4.1)."""

    image: ImageRef
    text: str
    queries: tuple[Query, ...]


class Match(Frozen):
    """P_T of one mention. A matcher that works by regions adds the region, its kind, and the evidence as text.

    `can_tell` is False where the matcher could not have seen the mention; the graph then says nothing about it. It is
    written only then, so that older recordings stay valid.
    """

    score: Annotated[float, Field(ge=0, le=1)]
    region: Box | None = None
    kind: Kind | None = None
    evidence: str | None = None
    ambiguous: bool = False
    can_tell: bool = Field(default=True, exclude_if=bool)


class Matches(Frozen):
    """One `Match` per query, in the request's order."""

    matches: tuple[Match, ...]
    notices: tuple[Notice, ...] = ()


class TraceQuery(Frozen):
    """A groundable mention, with the matcher's region where it gave one."""

    query: Query
    region: Box | None = None
    kind: Kind | None = None


class TraceRequest(Frozen):
    """Find the place in the picture that caused each match (GEM section 3.4.2)."""

    image: ImageRef
    queries: tuple[TraceQuery, ...]


class Trace(Frozen):
    """The point of highest importance, and the heat map's blob key (`tools.images.heatmap`) where there is a map.

    The peak is None where the map is empty: no part of the picture contributed to the match.
    """

    peak: Point | None
    heat: str | None = None


class Traces(Frozen):
    """One `Trace` per query, in the request's order."""

    traces: tuple[Trace, ...]
    notices: tuple[Notice, ...] = ()


class ExpandRequest(Frozen):
    """Describe this entity of the post in one phrase (RiVEG section IV-B2). `background` describes the picture."""

    text: str
    entity: str
    label: str
    background: str | None = None


class Expansion(Frozen):
    """The entity expansion: one sentence at most, in plain words."""

    text: str
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    notices: tuple[Notice, ...] = ()


class ReferringQuery(Query):
    """A mention with its referring expression, `Named Entity (TYPE) – expansion` (RiVEG section IV-B2)."""

    expression: str


class EntailRequest(Frozen):
    """Decide whether the picture entails each expression, so that it can be grounded there (RiVEG section IV-C1).

    `caption` is the short caption, which is part of OFA's prompt.
    """

    image: ImageRef
    text: str
    caption: str | None = None
    queries: tuple[ReferringQuery, ...]


class Entailment(Frozen):
    """The label, and the probability of entailment between the two labels."""

    label: Literal["entailment", "contradiction"]
    score: Annotated[float, Field(ge=0, le=1)]


class Entailments(Frozen):
    """One `Entailment` per query, in the request's order."""

    entailments: tuple[Entailment, ...]
    notices: tuple[Notice, ...] = ()


class GroundRequest(Frozen):
    """Find the place in the picture that each expression refers to (RiVEG section IV-C2)."""

    image: ImageRef
    text: str
    queries: tuple[ReferringQuery, ...]


class ScoredBox(Frozen):
    """A box in pixels of the upright picture, and the grounder's score for it."""

    box: Box
    score: float


class Grounded(Frozen):
    """The boxes for one query, best first; empty where the grounder found nothing.

    `mask` belongs to the first box. Only a grounder that also segments sets it.
    """

    boxes: tuple[ScoredBox, ...] = ()
    mask: Mask | None = None


class Groundings(Frozen):
    """One `Grounded` per query, in the request's order."""

    groundings: tuple[Grounded, ...]
    notices: tuple[Notice, ...] = ()


class ExtractRequest(Frozen):
    """Find the names of a post, their types and boxes at once. Without `tokens`, `text` is tokenised as a tweet."""

    text: str
    tokens: tuple[str, ...] | None = None
    image: ImageRef | None = None


class Place(Frozen):
    """Where an extracted mention is in the picture.

    `groundable` is None without a picture. It is True with a null box where the model gave an unusable box. `score` is
    the probability that the mention is in the picture, where the model's log-probabilities are known.
    """

    groundable: bool | None = None
    score: Annotated[float, Field(ge=0, le=1)] | None = None
    box: Box | None = None


class Extracted(Frozen):
    """The post's tokens, its mentions in text order, one `Place` per mention, and warnings about the answer."""

    tokens: tuple[str, ...]
    mentions: tuple[Mention, ...]
    places: tuple[Place, ...]
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
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
    """A mask and its box; both None where nothing could be segmented.

    `score` is the segmenter's own confidence (SAM's predicted IoU); `stability` is the IoU between its masks at a
    higher and a lower threshold of the logits, where it has logits.
    """

    mask: Mask | None = None
    box: Box | None = None
    score: float | None = None
    stability: float | None = None


class Segments(Frozen):
    """One `Segment` per prompt, in the request's order."""

    segments: tuple[Segment, ...]
    notices: tuple[Notice, ...] = ()


Captioner = Tool[CaptionRequest, Caption]
ExamplesTool = Tool[ExamplesRequest, Examples]
KnowledgeTool = Tool[KnowledgeRequest, Knowledge]
Tagger = Tool[TagRequest, Tags]
Reranker = Tool[RerankRequest, Reranked]
Matcher = Tool[MatchRequest, Matches]
Tracer = Tool[TraceRequest, Traces]
ExpansionTool = Tool[ExpandRequest, Expansion]
EntailmentTool = Tool[EntailRequest, Entailments]
Grounder = Tool[GroundRequest, Groundings]
Extractor = Tool[ExtractRequest, Extracted]
Segmenter = Tool[SegmentRequest, Segments]
