"""Beam search with an OFA: the decoder reads one token per beam and step, and caches the earlier ones."""

from collections.abc import Sequence

import torch
from torch import Tensor

from namepin.tools.nets.ofa.beam import Beams, beam_search
from namepin.tools.nets.ofa.decoder import Cache
from namepin.tools.nets.ofa.model import Ofa
from namepin.tools.nets.ofa.sizes import Memory


def continuations(net: Ofa, memory: Memory, first: int, places: Sequence[Tensor], width: int) -> Beams:
    """The likeliest answers to encoded questions.

    Args:
        net: the OFA.
        memory: the memory of n questions.
        first: the token that every answer starts with; it is not part of the result.
        places: the allowed ids for each position of an answer.
        width: largest number of beams per question.
    """
    cache: Cache | None = None

    def step(tokens: Tensor, parents: Tensor | None) -> Tensor:
        nonlocal cache
        if cache is not None and parents is not None:
            before = len(cache.own[0][0]) // len(tokens)
            rows = parents + before * torch.arange(len(tokens), device=tokens.device)[:, None]
            cache = cache.rows(rows.flatten())
        states, cache = net.decode(tokens.reshape(-1, 1), memory, cache)
        return net.logits(states[:, 0]).log_softmax(-1).reshape(*tokens.shape, -1)

    start = torch.full((len(memory.states),), first, device=memory.states.device)
    return beam_search(step, start, places, width)
