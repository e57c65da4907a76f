"""Shared by every neural segmenter: prompts clipped to the picture, normalised pictures, results from masks."""

from typing import Any

import numpy as np
from torch import Tensor

from namepin.tools.interfaces import Query, Segment, SegmentPrompt
from namepin.tools.labels import FINE_TO_COARSE8
from namepin.tools.types import Mask, Notice

_PLAIN = {
    "PER": "person",
    "LOC": "place",
    "ORG": "organization",
    "OTHER": "object",
    "film_and_television_works": "film or television work",
}
"""Plain words for categories whose names do not describe a picture."""


def segment_of(
    region: "np.ndarray[Any, np.dtype[np.bool_]]", score: float | None, stability: float | None = None
) -> Segment:
    """A boolean mask (height, width) as a `Segment` with its tight box; an empty mask gives only the score."""
    if not region.any():
        return Segment(score=score)
    mask = Mask.from_array(region)
    return Segment(mask=mask, box=mask.tight_box(), score=score, stability=stability)


def stability(logits: Tensor, offset: float = 1.0) -> float:
    """The stability of a mask: IoU of the masks at `offset` above and below zero, from 0 to 1.

    It is SAM's own stability score. The two masks are nested, so the IoU is a ratio of areas.

    Args:
        logits: (height, width) of the picture.
        offset: distance in logits; SAM's default is 1.
    """
    smaller, larger = int((logits > offset).sum()), int((logits > -offset).sum())
    return smaller / larger if larger else 0.0


def nothing_asked(prompt: SegmentPrompt, tool: str) -> Notice:
    """W122: the prompt names no place in the picture."""
    what = f"{prompt.query.text!r} has neither a point nor a box in the picture; it was not segmented"
    return Notice(code="W122", tool=tool, message=what)


def nothing_found(prompt: SegmentPrompt, tool: str) -> Notice:
    """W123: the mask has no pixel."""
    return Notice(code="W123", tool=tool, message=f"the mask of {prompt.query.text!r} is empty")


def category_words(query: Query) -> str:
    """The mention's category as plain words, for a segmenter with a text encoder.

    `sports_team` is "sports team". `person_other` describes nothing, so its coarse type, "person", is used.
    """
    name = query.category
    if name.endswith("_other"):
        name = FINE_TO_COARSE8.get(name, name.removesuffix("_other"))
    return _PLAIN.get(name, name.replace("_", " "))
