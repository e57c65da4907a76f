"""Small tools for sweeps: names are capitalised words, and the last letter decides how sure the tagger is."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from namepin.agent.api import Namepin
from namepin.agent.config.settings import Settings
from namepin.evals.datasets.gold import Dataset
from namepin.evals.run import load_dataset
from namepin.graphs.calls import LiveCalls
from namepin.tools.interfaces import (
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
from namepin.tools.types import Mention, token_offsets

SCORES = {
    "a": ({"politician": 0.95, "city": 0.05}, 0.1985),
    "o": ({"politician": 0.6, "city": 0.4}, 0.673),
}
MATCHES = {"A": 0.9, "B": 0.4}
BOX = (10.0, 10.0, 50.0, 60.0)


@dataclass
class Counted:
    """Counts its calls."""

    version: ClassVar[int] = 1
    calls: int = 0

    @property
    def fingerprint(self) -> str:
        return type(self).__name__

    def run(self, requests: Sequence[Any], media: Media) -> list[Any]:
        self.calls += len(requests)
        return [self.answer(request) for request in requests]

    def answer(self, request: Any) -> Any:
        raise NotImplementedError


class Tagger(Counted):
    name = "tagger"

    def answer(self, request: TagRequest) -> Tags:
        tokens = request.tokens or tuple(request.text.split())
        found: list[Mention] = []
        for i, (token, (start, end)) in enumerate(zip(tokens, token_offsets(request.text, tokens), strict=True)):
            if token[0].isupper():
                scores, entropy = SCORES[token[-1]]
                place = {"start": start, "end": end, "token_span": (i, i + 1)}
                typed = {"label": "PER", "fine_label": "politician", "scores": scores, "entropy": entropy}
                found.append(Mention(index=len(found), text=token, **place, **typed))
        return Tags(tokens=tokens, mentions=tuple(found))


class Reranker(Counted):
    """Takes the last candidate."""

    name = "reranker"

    def answer(self, request: RerankRequest) -> Reranked:
        return Reranked(label=request.candidates[-1])


class Matcher(Counted):
    name = "matcher"

    def answer(self, request: MatchRequest) -> Matches:
        return Matches(matches=tuple(Match(score=MATCHES[q.text[0]]) for q in request.queries))


class Tracer(Counted):
    name = "tracer"

    def answer(self, request: TraceRequest) -> Traces:
        return Traces(traces=tuple(Trace(peak=(30, 30)) for _ in request.queries))


class Segmenter(Counted):
    name = "segmenter"

    def answer(self, request: SegmentRequest) -> Segments:
        return Segments(segments=tuple(Segment(box=BOX) for _ in request.prompts))


def tools() -> dict[str, Counted]:
    return {tool.name: tool for tool in (Tagger(), Reranker(), Matcher(), Tracer(), Segmenter())}


def pin(made: dict[str, Counted]) -> Namepin:
    return Namepin(Settings(profile="test"), LiveCalls(made))


TEXT = "IMGID:1\nAna\tB-PER\nmet\tO\nBoo\tB-LOC\n\nIMGID:2\nAdo\tB-LOC\nsang\tO\n"
XML = "<annotation><size><width>100</width><height>80</height></size>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>10</xmin><ymin>10</ymin><xmax>50</xmax><ymax>60</ymax></bndbox></object>"


def folder(root: Path, split: str = "dev") -> Path:
    """A Twitter-GMNER folder with pictures: Ana (PER) and Ado (LOC) are in theirs, Boo (LOC) is not."""
    for name in ("txt", "xml", "images"):
        (root / name).mkdir(parents=True)
    (root / "txt" / f"{split}.txt").write_text(TEXT, "utf-8")
    for post, shown in (("1", "Ana"), ("2", "Ado")):
        (root / "xml" / f"{post}.xml").write_text(XML.format(OBJECT.format(shown)), "utf-8")
        Image.new("RGB", (100, 80), "white").save(root / "images" / f"{post}.jpg")
    return root


def data(root: Path, split: str = "dev") -> Dataset:
    return load_dataset("gmner", folder(root, split), split)
