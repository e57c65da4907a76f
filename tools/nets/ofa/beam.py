"""Beam search over a fixed number of positions, each with its own list of allowed tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor | None], Tensor]
"""Maps tokens (n, beams), and the earlier beam that each continues, (n, beams) or None at the first step, to
log-probabilities (n, beams, vocabulary)."""


@dataclass(frozen=True)
class Beams:
    """The sequences that the search found, best first.

    Attributes:
        tokens: (n, beams, places).
        scores: (n, beams), the sums of the tokens' log-probabilities.
    """

    tokens: Tensor
    scores: Tensor


def beam_search(step: Step, first: Tensor, places: Sequence[Tensor], width: int) -> Beams:
    """The likeliest continuations that a beam search of `width` finds.

    All are equally long, so none ends early and lengths need no correction. A position with one allowed token, such as
    the end of the text, only adds that token's log-probability. Where fewer than `width` continuations exist, all are
    kept.

    Args:
        step: calls the model.
        first: (n), the token that each row starts with.
        places: for each position, the allowed ids, (allowed).
        width: largest number of continuations kept per row.
    """
    tokens, parents = first[:, None], None
    scores = torch.zeros(tokens.shape, device=first.device)
    found = first.new_empty(len(first), 1, 0)
    for allowed in places:
        sums = scores[..., None] + step(tokens, parents)[..., allowed]
        scores, best = sums.flatten(1).topk(min(width, sums[0].numel()))
        parents, tokens = best // len(allowed), allowed[best % len(allowed)]
        parents_tokens = found.gather(1, parents[..., None].expand(-1, -1, found.shape[-1]))
        found = torch.cat([parents_tokens, tokens[..., None]], dim=-1)
    return Beams(found, scores)
