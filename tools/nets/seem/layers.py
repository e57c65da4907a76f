"""Layers shared by pixel decoder and mask decoder, and position embeddings."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD_WIDTH = 64
"""Channels of an attention head in SEEM's transformers; tensor shapes do not reveal it."""


def heads_of(width: int) -> int:
    """Number of attention heads of a transformer of this width."""
    return max(1, width // HEAD_WIDTH)


class Attention(nn.MultiheadAttention):
    """Multi-head attention, batch first, that returns only its output."""

    def __init__(self, width: int) -> None:
        super().__init__(width, heads_of(width), batch_first=True)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, blocked: Tensor | None = None) -> Tensor:
        """Attention of (rows, queries, width) over (rows, keys, width).

        Args:
            query: the queries.
            key: the keys.
            value: the values.
            blocked: true where a query must not attend: (queries, keys), or (rows, queries, keys).
        """
        if blocked is not None and blocked.dim() == 3:
            blocked = blocked.repeat_interleave(self.num_heads, dim=0)
        output: Tensor = self(query, key, value, attn_mask=blocked, need_weights=False)[0]
        return output


class Mlp(nn.Module):
    """Linear layers with ReLUs between them."""

    def __init__(self, *widths: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in zip(widths, widths[1:], strict=False))

    def forward(self, x: Tensor) -> Tensor:
        """(..., first width) -> (..., last width)."""
        for layer in self.layers[:-1]:
            x = functional.relu(layer(x))
        last: Tensor = self.layers[-1](x)
        return last


class NormedConv(nn.Conv2d):
    """A convolution without bias, and a group norm over 32 groups."""

    def __init__(self, before: int, after: int, kernel: int) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.GroupNorm(32, after)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, before, h, w) -> (rows, after, h, w)."""
        normed: Tensor = self.norm(super().forward(x))
        return normed


def sine_positions(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Sines and cosines of row and column, both scaled to (0, 2 pi]: (1, height * width, channels), rows' half first.

    `like` gives dtype and device.
    """
    half = channels // 2
    step = torch.arange(half, dtype=like.dtype, device=like.device)
    wavelength = 10000.0 ** (2 * (step // 2) / half)
    axes = []
    for size in (height, width):
        along = torch.arange(1, size + 1, dtype=like.dtype, device=like.device)
        angle = (along / (size + 1e-6) * 2 * math.pi)[:, None] / wavelength
        axes.append(torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), dim=2).flatten(1))
    rows = axes[0][:, None].expand(height, width, half)
    columns = axes[1][None].expand(height, width, half)
    return torch.cat((rows, columns), dim=2).flatten(0, 1)[None]


def sample(features: Tensor, points: Tensor) -> Tensor:
    """Bilinear samples of a map; the corners of the unit square are the centres of the corner cells.

    Args:
        features: (rows, channels, h, w).
        points: (rows, points, 2) as (x, y) in 0..1.

    Returns:
        (rows, points, channels).
    """
    grid = 2.0 * points[:, :, None] - 1.0
    return functional.grid_sample(features, grid, align_corners=True)[..., 0].transpose(1, 2)


def to_sequence(features: Tensor) -> Tensor:
    """(rows, channels, h, w) -> (rows, h * w, channels)."""
    return features.flatten(2).transpose(1, 2)
