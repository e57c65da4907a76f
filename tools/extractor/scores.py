"""Scores of an answer's items, from the log-probabilities of its tokens: of the type, and of "it is in the picture".

They are the model's own probabilities of what it wrote, not calibrated ones.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from namepin.tools.llm.client import AnswerToken

_TYPE = re.compile(r'"type"\s*:\s*"([^"]*)"')
_BOX = re.compile(r'"box"\s*:\s*(null|\[)')


@dataclass(frozen=True)
class ItemScore:
    """The probability of an item's type, and the probability that its name is in the picture."""

    type: float
    present: float


def item_scores(tokens: Sequence[AnswerToken], items: int) -> list[ItemScore] | None:
    """One score per item of the answer, in its order; None where the tokens do not show so many items.

    Args:
        tokens: of the whole reply; empty where the server gave none.
        items: number of items in the answer, those of another form included.
    """
    text = "".join(token.token for token in tokens)
    begin = text.rfind("</think>") + 1
    types, boxes = ([found.span(1) for found in key.finditer(text, begin)] for key in (_TYPE, _BOX))
    if not tokens or len(types) != items or len(boxes) != items:
        return None
    scores = []
    for typed, boxed in zip(types, boxes, strict=True):
        first = _probability(tokens, boxed[0], boxed[0] + 1)
        present = first if text[boxed[0]] == "[" else 1 - first
        scores.append(ItemScore(_probability(tokens, *typed), present))
    return scores


def _probability(tokens: Sequence[AnswerToken], start: int, end: int) -> float:
    """The product over the tokens that hold these characters, at most 1."""
    total, at = 0.0, 0
    for token in tokens:
        if at < end and at + len(token.token) > start:
            total += min(token.likely[token.token], 0.0)
        at += len(token.token)
    return math.exp(total)
