"""Nets that compute in bfloat16 or, between float32, in 8-bit integers on a CPU.

A matrix product is most of an encoder's time. Processors with matrix tiles (AMX) or dot-product instructions (VNNI)
multiply these formats several times faster than float32; other processors are slower with them.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Precision = Literal["float32", "bfloat16", "int8"]


class Int8Linear(nn.Module):
    """A linear layer over 8-bit integers: a scale per output of the weights, and per row of the input.

    The scale of a row depends on that row alone, so rows of one batch do not affect each other.

    Args:
        linear: the float32 layer; it is not changed.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(1).clamp_min(1e-12) / 127
        self.register_buffer("weight", (weight / scale.unsqueeze(1)).round().to(torch.int8).t().contiguous())
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        """`(..., in)` -> `(..., out)`."""
        rows = x.reshape(-1, x.shape[-1])
        steps = rows.abs().amax(1, keepdim=True).clamp_min(1e-12) / 127
        product = torch._int_mm((rows / steps).round_().to(torch.int8), self.weight)
        result = product.float().mul_(steps).mul_(self.scale)
        if self.bias is not None:
            result = result.add_(self.bias)
        return result.reshape(*x.shape[:-1], -1)


def lower_precision(net: nn.Module, precision: Precision) -> None:
    """Let `net` compute in a format, in place: all of it in bfloat16, or its linear layers in 8-bit integers."""
    if precision == "bfloat16":
        net.bfloat16()
    elif precision == "int8":
        for name, child in net.named_children():
            if isinstance(child, nn.Linear):
                setattr(net, name, Int8Linear(child))
            else:
                lower_precision(child, precision)


def native_precision() -> Precision:
    """The format that this processor multiplies fastest without a loss that counts.

    It depends on the processor alone, never on its load. 8-bit integers are not chosen: they cost the starter 0.27
    points of F1 on 51 types (docs/batch.md).
    """
    return "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"
