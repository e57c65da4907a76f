"""Test doubles for RiVEG's own roles, beside those of `scripted_tools`.

Entailment holds for a name that starts with a letter before N; the grounder gives such a name a box by its place in the
request, and the segmenter of `scripted_tools` a small square, which disagrees with any large box.
"""

from typing import Any

import numpy as np

from namepin.tools.interfaces import (
    Caption,
    CaptionRequest,
    Entailment,
    Entailments,
    EntailRequest,
    Example,
    Examples,
    ExamplesRequest,
    ExpandRequest,
    Expansion,
    Grounded,
    Groundings,
    GroundRequest,
    ScoredBox,
    Segment,
    SegmentRequest,
    Segments,
)
from namepin.tools.media import Media
from namepin.tools.types import Mask
from support.scripted_tools import ALL, Scripted

TEXTUAL = ("captioner", "examples", "knowledge", "tagger")
SECOND = ("describer", "expansion", "entailment", "grounder", "segmenter")


class ScriptedExamples(Scripted):
    name = "examples"

    def answer(self, request: ExamplesRequest, media: Media) -> Examples:
        example = Example(id="7", text="a sample", annotation="Named entities: 1. A (person)", similarity=0.5)
        return Examples(examples=(example,))


class ScriptedDescriber(Scripted):
    name = "describer"

    def answer(self, request: CaptionRequest, media: Media) -> Caption:
        return Caption(text="a long description")


class ScriptedExpansion(Scripted):
    name = "expansion"

    def answer(self, request: ExpandRequest, media: Media) -> Expansion:
        return Expansion(text=f"a {request.label} called {request.entity.lower()}")


class ScriptedEntailment(Scripted):
    name = "entailment"

    def answer(self, request: EntailRequest, media: Media) -> Entailments:
        scores = [0.75 if query.text[0] < "N" else 0.25 for query in request.queries]
        labels = ["entailment" if score >= 0.5 else "contradiction" for score in scores]
        return Entailments(
            entailments=tuple(
                Entailment.model_validate({"label": label, "score": score})
                for label, score in zip(labels, scores, strict=True)
            )
        )


class ScriptedGrounder(Scripted):
    """A 20 x 20 box for every name but Bob, and with `masks` the box's own mask."""

    name = "grounder"

    def answer(self, request: GroundRequest, media: Media) -> Groundings:
        found = []
        for i, query in enumerate(request.queries):
            box = (float(i), 10.0, float(i + 20), 30.0)
            mask = None
            if self.config.get("masks"):
                array = np.zeros((request.image.height, request.image.width), dtype=bool)
                array[10:30, i : i + 20] = True
                mask = Mask.from_array(array)
            nothing = query.text == "Bob"
            found.append(Grounded() if nothing else Grounded(boxes=(ScoredBox(box=box, score=0.8),), mask=mask))
        return Groundings(groundings=tuple(found))


class BoxSegmenter(Scripted):
    """Fills the box; for Carla, whom it misses, one corner of it."""

    name = "segmenter"

    def answer(self, request: SegmentRequest, media: Media) -> Segments:
        segments = []
        for prompt in request.prompts:
            assert prompt.box is not None
            x1, y1, x2, y2 = map(int, prompt.box)
            array = np.zeros((request.image.height, request.image.width), dtype=bool)
            array[y1 : y1 + 4 if prompt.query.text == "Carla" else y2, x1:x2] = True
            mask = Mask.from_array(array)
            segments.append(Segment(mask=mask, box=mask.tight_box(), score=0.9, stability=0.97))
        return Segments(segments=tuple(segments))


RIVEG = {
    "captioner": ALL["captioner"],
    "examples": ScriptedExamples,
    "knowledge": ALL["knowledge"],
    "tagger": ALL["tagger"],
    "reranker": ALL["reranker"],
    "describer": ScriptedDescriber,
    "expansion": ScriptedExpansion,
    "entailment": ScriptedEntailment,
    "grounder": ScriptedGrounder,
    "segmenter": BoxSegmenter,
}


def riveg_tools(*roles: str, **replaced: Scripted) -> dict[str, Any]:
    """A double for each role; without names, for all but the reranker."""
    wanted = roles or tuple(role for role in RIVEG if role != "reranker")
    return {role: RIVEG[role]() for role in wanted} | replaced
