"""Dropout and drop path for nets that the tools run without them: hooks that act in training mode only."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def add_dropout(modules: Iterable[nn.Module], rate: float) -> None:
    """Set values of the modules' outputs to zero at this rate, and scale the others up."""
    if rate:
        for module in modules:
            module.register_forward_hook(lambda one, _, output: functional.dropout(output, rate, training=one.training))


def add_drop_path(branches: Sequence[Iterable[nn.Module]], rate: float) -> None:
    """Leave out residual branches of whole rows, at a rate that rises from 0 in the first layer to `rate` in the last.

    Args:
        branches: the modules whose outputs are added to the residual, (rows, ...), for each layer.
        rate: the last layer's rate.
    """
    rates = torch.linspace(0, rate, len(branches)).tolist() if rate else []
    for modules, own in zip(branches, rates, strict=False):
        for module in modules:
            if own:
                module.register_forward_hook(lambda one, _, output, own=own: drop_rows(output, own, one.training))


def drop_rows(output: Tensor, rate: float, training: bool) -> Tensor:
    """(rows, ...) with rows set to zero at this rate and the others scaled up; unchanged outside training."""
    if not training:
        return output
    kept = torch.rand(len(output), *[1] * (output.dim() - 1), device=output.device) >= rate
    return output * kept / (1 - rate)


def regularise_ofa(net: Any, dropout: float, drop_path: float) -> None:
    """OFA's regularisers in its tuning: dropout of embeddings and branches, and drop path in both stacks."""
    encoder = [(layer.attn_ln, layer.fc2) for layer in net.encoder.layers]
    decoder = [(layer.self_attn_ln, layer.cross_attn_ln, layer.fc2) for layer in net.decoder.layers]
    embedded = (
        net.encoder.layernorm_embedding,
        net.encoder.patch_layernorm_embedding,
        net.decoder.layernorm_embedding,
    )
    add_dropout(embedded, dropout)
    for branches in (encoder, decoder):
        add_dropout((module for layer in branches for module in layer), dropout)
        add_drop_path(branches, drop_path)
