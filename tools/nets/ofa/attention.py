"""Shared by encoder and decoder: attention with position biases, the MLP, and distances in buckets."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from namepin.tools.nets.ofa.sizes import OfaSizes

_FARTHEST = 1023
"""The distance in tokens at which the logarithmic buckets end, for any number of positions."""


def split_heads(states: Tensor, heads: int) -> Tensor:
    """(n, tokens, width) to (n, heads, tokens, width / heads)."""
    return states.reshape(*states.shape[:2], heads, -1).transpose(1, 2)


class Attention(nn.Module):
    """Attention whose scores get a bias from the positions; each head's output may have a learned weight."""

    def __init__(self, sizes: OfaSizes) -> None:
        super().__init__()
        self.heads, self.scale = sizes.heads, sizes.scale
        self.q_proj = nn.Linear(sizes.width, sizes.width)
        self.k_proj = nn.Linear(sizes.width, sizes.width)
        self.v_proj = nn.Linear(sizes.width, sizes.width)
        self.out_proj = nn.Linear(sizes.width, sizes.width)
        self.c_attn = nn.Parameter(torch.ones(sizes.heads)) if sizes.scale_heads else None

    def keys_values(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of (n, tokens, width), each (n, heads, tokens, head)."""
        return split_heads(self.k_proj(states), self.heads), split_heads(self.v_proj(states), self.heads)

    def forward(self, states: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """Attend from `states` to `keys`.

        Args:
            states: (n * group, tokens, width); each `group` of rows shares one row of keys.
            keys: (n, heads, others, head).
            values: likewise.
            bias: (1 or n, heads, tokens, others), added to the scores; -inf hides.

        Returns:
            (n * group, tokens, width).
        """
        group = len(states) // len(keys)
        query = split_heads(self.q_proj(states), self.heads)
        if group > 1:  # the rows of a group become one row of queries, so that keys and values are not copied
            query = query.reshape(-1, group, *query.shape[1:]).transpose(1, 2).flatten(2, 3)
            bias = bias.repeat(1, 1, group, 1)
        mixed = functional.scaled_dot_product_attention(query, keys, values, attn_mask=bias, scale=self.scale)
        if self.c_attn is not None:
            mixed = mixed * self.c_attn.view(-1, 1, 1)
        if group > 1:
            mixed = mixed.reshape(*mixed.shape[:2], group, -1, mixed.shape[-1]).transpose(1, 2).flatten(0, 1)
        output: Tensor = self.out_proj(mixed.transpose(1, 2).flatten(2))
        return output


class Perceptron(nn.Module):
    """The second half of every layer. Layers inherit it, so that the parts keep OFA's names."""

    def __init__(self, sizes: OfaSizes) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sizes.width, sizes.inner)
        self.fc2 = nn.Linear(sizes.inner, sizes.width)
        self.ffn_layernorm = nn.LayerNorm(sizes.inner) if sizes.scale_fc else None
        self.w_resid = nn.Parameter(torch.ones(sizes.width)) if sizes.scale_resids else None
        self.final_layer_norm = nn.LayerNorm(sizes.width)

    def think(self, states: Tensor) -> Tensor:
        """(n, tokens, width) to the same."""
        inner = functional.gelu(self.fc1(self.final_layer_norm(states)))
        if self.ffn_layernorm is not None:
            inner = self.ffn_layernorm(inner)
        residual = states if self.w_resid is None else self.w_resid * states
        mixed: Tensor = residual + self.fc2(inner)
        return mixed


def norm_after(sizes: OfaSizes) -> nn.Module:
    """The norm on the output of an attention, if the checkpoint has one."""
    return nn.LayerNorm(sizes.width) if sizes.scale_attn else nn.Identity()


def position_bias(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """The term that absolute positions add to the scores: (1, heads, tokens, others) of two projected embeddings."""
    return split_heads(query, heads) @ split_heads(key, heads).transpose(2, 3) * scale


def word_buckets(start: int, stop: int, size: int, device: torch.device) -> Tensor:
    """The entry in the table of token distances for each pair of positions.

    Distances up to half of `size` have an entry each; farther ones share entries, on a logarithmic scale.

    Args:
        start: position of the first query; the last is `stop - 1`.
        stop: number of keys.
        size: number of buckets in one direction.
        device: device of the result.

    Returns:
        (stop - start, stop), 0 to 2 * size - 2.
    """
    places = torch.arange(stop, device=device)
    distance = places[start:, None] - places[None, :]
    near = size // 2
    reach = torch.log(distance.abs().clamp(min=near) / near) / math.log(_FARTHEST / near)
    far = torch.ceil(reach * (near - 1)).long() + near
    return torch.where(distance.abs() <= near, distance, far * distance.sign()) + size - 1


def patch_buckets(rows: int, columns: int, size: int, device: torch.device) -> Tensor:
    """The entry in the table of patch distances for each pair of patches: one per step down and right.

    Returns:
        (rows * columns, rows * columns), patches row by row.
    """
    down = torch.arange(rows, device=device).repeat_interleave(columns)
    right = torch.arange(columns, device=device).repeat(rows)
    steps_down, steps_right = (at[:, None] - at[None, :] + size - 1 for at in (down, right))
    return steps_down * (2 * size - 1) + steps_right


def looked_up(table: nn.Module, buckets: Tensor) -> Tensor:
    """The biases of a table of distances: (1, heads, tokens, others)."""
    biases: Tensor = table(buckets)
    return biases.permute(2, 0, 1)[None]
