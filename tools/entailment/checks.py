"""Shared by entailment tools and grounders: the check of requests, and the label of a score."""

import math
from collections.abc import Sequence
from typing import TypeVar

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.interfaces import Entailment, EntailRequest, GroundRequest

ReferringRequest = TypeVar("ReferringRequest", EntailRequest, GroundRequest)


def check_expressions(requests: Sequence[ReferringRequest]) -> Sequence[ReferringRequest]:
    """The requests, after checking that each expression holds a letter or digit.

    Raises:
        NamepinError: E109 when one does not, since there is nothing to judge.
    """
    for request in requests:
        for query in request.queries:
            if not any(char.isalnum() for char in query.expression):
                raise NamepinError(
                    "E109",
                    f"the referring expression of {query.text!r} has no words: {query.expression[:40]!r}",
                    mend="an expression is `NAME (TYPE) – EXPANSION`",
                )
    return requests


def judge(score: float, tool: str) -> Entailment:
    """The label for P(entailment): entailment from 0.5 on.

    Raises:
        ToolUnavailable: when the score is not a probability, as with broken weights.
    """
    if not (math.isfinite(score) and 0 <= score <= 1):
        raise ToolUnavailable(tool, f"the model's score is {score}, not a probability", mend="check its weights")
    return Entailment(label="entailment" if score >= 0.5 else "contradiction", score=score)
