"""The graph's own cost per post: the GEM graph with tools that answer at once, against calling them in turn."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from namepin.agent.api import Namepin
from namepin.agent.config.settings import load_settings
from namepin.evals.bench.harness import time_interleaved
from namepin.graphs.calls import LiveCalls
from namepin.tools.base import fingerprint
from namepin.tools.interfaces import (
    Match,
    Matches,
    MatchRequest,
    Query,
    Segment,
    SegmentPrompt,
    SegmentRequest,
    Segments,
    TagRequest,
    Tags,
    Trace,
    TraceQuery,
    TraceRequest,
    Traces,
)
from namepin.tools.media import Media
from namepin.tools.text import tweet_tokens
from namepin.tools.types import Frozen, ImageRef, Mask, Mention, token_offsets

TEXT = "Eileen Collins and Rotterdam : the Harbour Jazz Festival welcomes NASA"
SPANS = ((0, 2, "athlete", "PER"), (3, 4, "city", "LOC"), (6, 9, "festival", "OTHER"), (10, 11, "company", "ORG"))


class _Instant:
    """A tool with a fixed answer."""

    name: ClassVar[str] = "instant"
    version: ClassVar[int] = 1

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    @property
    def fingerprint(self) -> str:
        """A fingerprint of the name alone."""
        return fingerprint(self.name, self.version, {})

    def run(self, requests: Sequence[Any], media: Media) -> list[Any]:
        """The same answer for every request."""
        return [self._answer] * len(requests)


def bench(posts: int = 200, rounds: int = 5) -> dict[str, float]:
    """Milliseconds per post of both, and the graph's overhead; four mentions, all in the picture.

    `at_once_ms`: milliseconds per post with 16 posts in flight, as in a batch.
    """
    from PIL import Image

    picture = Image.new("RGB", (64, 48))
    tools = instant_tools()
    pin = Namepin(load_settings("starter"), LiveCalls(tools))
    ready = pin.ready({"id": "1", "text": TEXT}, picture)
    media, requests = pin.context(ready).media, _requests(ready.image)

    def plain() -> None:
        for _ in range(posts):
            for role, request in requests:
                tools[role].run([request], media)

    async def one_by_one() -> None:
        for _ in range(posts):
            await pin.aextract(ready)

    async def at_once() -> None:
        for _ in range(posts // 16):
            await asyncio.gather(*(pin.aextract(ready) for _ in range(16)))

    found = asyncio.run(pin.aextract(ready))
    assert len(found.entities) == len(SPANS) and all(entity.box for entity in found.entities)
    ways: dict[str, Callable[[], object]] = {
        "graph": lambda: asyncio.run(one_by_one()),
        "at_once": lambda: asyncio.run(at_once()),
        "plain": plain,
    }
    seconds = time_interleaved(ways, rounds)
    graph, plain_ms = seconds["graph"] / posts * 1000, seconds["plain"] / posts * 1000
    return {
        "graph_ms": graph,
        "plain_ms": plain_ms,
        "overhead_ms": graph - plain_ms,
        "at_once_ms": seconds["at_once"] / (posts // 16 * 16) * 1000,
    }


def instant_tools() -> dict[str, _Instant]:
    """Tagger, matcher, tracer and segmenter with answers for `TEXT`."""
    import numpy as np

    tokens = tweet_tokens(TEXT)
    offsets = token_offsets(TEXT, tokens)
    mentions = tuple(
        Mention(
            index=at,
            text=TEXT[offsets[first][0] : offsets[last - 1][1]],
            start=offsets[first][0],
            end=offsets[last - 1][1],
            token_span=(first, last),
            label=label,
            fine_label=fine,
            scores={fine: 1.0},
            entropy=0.0,
        )
        for at, (first, last, fine, label) in enumerate(SPANS)
    )
    region = np.zeros((48, 64), dtype=bool)
    region[10:30, 20:40] = True
    mask, count = Mask.from_array(region), len(SPANS)
    segment = Segment(mask=mask, box=mask.tight_box(), score=0.9)
    return {
        "tagger": _Instant(Tags(tokens=tokens, mentions=mentions)),
        "matcher": _Instant(Matches(matches=(Match(score=0.9),) * count)),
        "tracer": _Instant(Traces(traces=(Trace(peak=(30, 20)),) * count)),
        "segmenter": _Instant(Segments(segments=(segment,) * count)),
    }


def _requests(image: ImageRef | None) -> list[tuple[str, Frozen]]:
    """The graph's calls, in its order."""
    assert image is not None
    words = TEXT.split()
    queries = tuple(Query(text=" ".join(words[a:b]), label=label, category=fine) for a, b, fine, label in SPANS)
    return [
        ("tagger", TagRequest(text=TEXT)),
        ("matcher", MatchRequest(image=image, text=TEXT, queries=queries)),
        ("tracer", TraceRequest(image=image, queries=tuple(TraceQuery(query=query) for query in queries))),
        (
            "segmenter",
            SegmentRequest(image=image, prompts=tuple(SegmentPrompt(query=query, peak=(30, 20)) for query in queries)),
        ),
    ]
