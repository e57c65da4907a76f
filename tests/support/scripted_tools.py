"""Test doubles for the graph: tools with small real logic, so that every route can be taken at will.

The tagger's mentions are the capitalised words; a word's last letter decides how sure it is (see `SCORES`). The matcher
finds a mention in the picture when its name starts with a letter before N.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from namepin.graphs.calls import LiveCalls
from namepin.graphs.context import Context
from namepin.tools.base import fingerprint
from namepin.tools.errors import ToolUnavailable
from namepin.tools.interfaces import (
    Caption,
    CaptionRequest,
    Knowledge,
    KnowledgeRequest,
    Match,
    Matches,
    MatchRequest,
    Reranked,
    RerankRequest,
    Segment,
    SegmentRequest,
    Segments,
    TagRequest,
    Tags,
    Trace,
    TraceRequest,
    Traces,
)
from namepin.tools.media import Media
from namepin.tools.text import tweet_tokens
from namepin.tools.types import ImageRef, Mask, Mention, token_offsets

IMAGE = ImageRef(sha256="a" * 64, width=64, height=48)

SURE = ({"politician": 0.99, "actor": 0.01}, 0.056)
UNSURE = ({"politician": 0.4, "actor": 0.3, "athlete": 0.2, "company": 0.1}, 1.28)
BORDERLINE = ({"city": 0.95, "country": 0.05}, 0.1985)
SCORES = {"a": SURE, "o": BORDERLINE}
"""Last letter of a name -> its scores and entropy; UNSURE for every other letter."""


@dataclass
class Scripted:
    """What the doubles share: a log of requests, an optional delay, an optional failure."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    delay: Callable[[], float] = lambda: 0.0
    fail: Callable[[int], Exception | None] = lambda attempt: None
    seen: list[Any] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.name, self.version, self.config)

    def run(self, requests: Sequence[Any], media: Media) -> list[Any]:
        self.seen.extend(requests)
        attempt = len(self.seen)
        time.sleep(self.delay())
        if error := self.fail(attempt):
            raise error
        return [self.answer(request, media) for request in requests]

    def answer(self, request: Any, media: Media) -> Any:
        raise NotImplementedError


class ScriptedCaptioner(Scripted):
    name = "captioner"

    def answer(self, request: CaptionRequest, media: Media) -> Caption:
        return Caption(text=f"a picture of {request.image.width} by {request.image.height}")


class ScriptedKnowledge(Scripted):
    name = "knowledge"

    def answer(self, request: KnowledgeRequest, media: Media) -> Knowledge:
        return Knowledge(text=f"about {len(request.text)} characters; {request.caption}", style="scripted")


class ScriptedTagger(Scripted):
    name = "tagger"

    def answer(self, request: TagRequest, media: Media) -> Tags:
        tokens = request.tokens or tweet_tokens(request.text)
        mentions = []
        for i, (token, (start, end)) in enumerate(zip(tokens, token_offsets(request.text, tokens), strict=True)):
            if token[0].isupper():
                scores, entropy = SCORES.get(token[-1], UNSURE)
                place = next(iter(scores)) == "city"
                mentions.append(
                    Mention(
                        index=len(mentions),
                        text=token,
                        start=start,
                        end=end,
                        token_span=(i, i + 1),
                        label="LOC" if place else "PER",
                        fine_label=next(iter(scores)),
                        scores=scores,
                        entropy=entropy,
                    )
                )
        return Tags(tokens=tokens, mentions=tuple(mentions))


class ScriptedReranker(Scripted):
    """Takes the last candidate."""

    name = "reranker"

    def answer(self, request: RerankRequest, media: Media) -> Reranked:
        return Reranked(label=request.candidates[-1])


class ScriptedMatcher(Scripted):
    name = "matcher"

    def answer(self, request: MatchRequest, media: Media) -> Matches:
        return Matches(matches=tuple(Match(score=0.75 if q.text[0] < "N" else 0.25) for q in request.queries))


class RegionMatcher(Scripted):
    """Puts everybody in one and the same region."""

    name = "matcher"

    def answer(self, request: MatchRequest, media: Media) -> Matches:
        match = Match(score=0.6, region=(8, 8, 40, 40), kind="face", evidence="a face", ambiguous=True)
        return Matches(matches=(match,) * len(request.queries))


class ScriptedTracer(Scripted):
    name = "tracer"

    def answer(self, request: TraceRequest, media: Media) -> Traces:
        heat = [media.put_blob(q.query.text.encode()) for q in request.queries]
        return Traces(traces=tuple(Trace(peak=(10 + i, 20), heat=key) for i, key in enumerate(heat)))


class ScriptedSegmenter(Scripted):
    """A 4 x 4 square around the point."""

    name = "segmenter"

    def answer(self, request: SegmentRequest, media: Media) -> Segments:
        import numpy as np

        segments = []
        for prompt in request.prompts:
            x, y = prompt.peak or (20, 20)
            array = np.zeros((request.image.height, request.image.width), dtype=bool)
            array[y - 2 : y + 2, x - 2 : x + 2] = True
            mask = Mask.from_array(array)
            segments.append(Segment(mask=mask, box=mask.tight_box(), score=0.9))
        return Segments(segments=tuple(segments))


ALL = {
    tool.name: tool
    for tool in (
        ScriptedCaptioner,
        ScriptedKnowledge,
        ScriptedTagger,
        ScriptedReranker,
        ScriptedMatcher,
        ScriptedTracer,
        ScriptedSegmenter,
    )
}


def make_tools(*roles: str, **replaced: Scripted) -> dict[str, Scripted]:
    """A double for each role (all, when none is named), some of them replaced."""
    return {role: ALL[role]() for role in roles or ALL} | replaced


def make_context(tools: dict[str, Scripted] | None = None, **fields: Any) -> Context:
    return Context(calls=LiveCalls(make_tools() if tools is None else tools), **fields)


def down(tool: str) -> Callable[[int], Exception | None]:
    """For `fail`: the tool's server is down for good."""
    return lambda attempt: ToolUnavailable(tool, "no answer from http://me:secret@host/v1")
