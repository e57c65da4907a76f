"""Gradient-weighted maps: the places of a picture that caused a score, as plain tensor maths (GEM section 3.4.2).

There are two families. `attention_map` weights a text layer's cross-attention by its gradient: equation 11, for BLIP.
`feature_map` is the classic Grad-CAM (Selvaraju et al., 2017) on the vision encoder's output. Section 5.2 uses it for
models without such a layer: BLIP-2 and LLaVA.

All maps are non-negative, without unit or fixed scale, so rows cannot be compared with each other.
"""

import torch
from torch import Tensor

from namepin.tools.models.config import Heads, Target, Tokens


def score_to_trace(logits: Tensor, target: Target) -> Tensor:
    """The sum over rows of each row's score of "match".

    Rows of a batch are independent, so the gradient of the sum is each row's own gradient: one backward pass is enough.

    Args:
        logits: (rows, 2); column 1 is "match".
        target: the score to differentiate.
    """
    scores = logits if target == "logit" else logits.softmax(dim=-1)
    return scores[:, 1].sum()


def attention_map(
    attention: Tensor, gradient: Tensor, text_mask: Tensor, *, heads: Heads = "mean", tokens: Tokens = "inner_mean"
) -> Tensor:
    """Equation 11: `A * relu(dA)`, combined over heads and tokens.

    Args:
        attention: (rows, heads, tokens, 1 + patches); cross-attention probabilities, the image's class token first.
        gradient: the score's gradient with respect to `attention`, same shape.
        text_mask: (rows, tokens); 1 for the text and its first and last special token, 0 for padding on the right.
        heads: combine heads by their mean, or use the strongest one.
        tokens: see `Tokens`.

    Returns:
        (rows, patches), in the patches' order. A text without an inner token has a map of zeros under `inner_mean`.
    """
    weighted = (attention * gradient.clamp(min=0))[..., 1:]
    by_token = weighted.mean(dim=1) if heads == "mean" else weighted.amax(dim=1)
    counted = text_mask.to(by_token.dtype)
    if tokens == "inner_mean":
        counted = _inner(counted)
        counted = counted / counted.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("rt,rtp->rp", counted, by_token)


def _inner(mask: Tensor) -> Tensor:
    """`mask` without each row's first token and its last one ([SEP])."""
    inner = torch.zeros_like(mask)
    inner[:, 1:-1] = mask[:, 1:-1] * mask[:, 2:]
    return inner


def feature_map(features: Tensor, gradient: Tensor) -> Tensor:
    """Grad-CAM: the channels weighted by their mean gradient over the patches, summed, negative parts cut off.

    Args:
        features: (rows, patches, channels), the vision encoder's output without class token.
        gradient: the score's gradient with respect to `features`, same shape.

    Returns:
        (rows, patches).
    """
    weights = gradient.mean(dim=1)
    return torch.einsum("rpc,rc->rp", features, weights).clamp(min=0)
