"""SeqTR's transformer: encodes the fused features, and generates tokens one after another."""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from namepin.tools.nets.seqtr.sizes import HEADS, Memory, SeqtrSizes, TokenSequences

_NORM_GROUPS = 32


class Attention(nn.Module):
    """Multi-head attention with separate computation of keys and values, so that they can be cached."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.zeros(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def _project(self, x: Tensor, part: int) -> Tensor:
        width = x.shape[-1]
        rows = slice(part * width, (part + 1) * width)
        projected = functional.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        return projected.view(*x.shape[:2], HEADS, -1).transpose(1, 2)

    def keys(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Both (n, places, width) -> (n, heads, places, width / heads)."""
        return self._project(keys, 1), self._project(values, 2)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Queries (n, asked, width), and the result of `keys` -> (n, asked, width)."""
        asked = self._project(queries, 0)
        weights = (asked @ keys.transpose(-1, -2) / math.sqrt(keys.shape[-1])).softmax(-1)
        result: Tensor = self.out_proj((weights @ values).transpose(1, 2).flatten(2))
        return result


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each followed by its norm."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.linear1, self.linear2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor, places: Tensor) -> Tensor:
        """States (n, places, width); the position encoding `places` is added to queries and keys, not to values."""
        placed = x + places
        x = self.norm1(x + self.self_attn(placed, *self.self_attn.keys(placed, x)))
        result: Tensor = self.norm2(x + self.linear2(self.linear1(x).relu()))
        return result


class DecoderLayer(nn.Module):
    """Self-attention over the generated tokens, attention to the memory, feed-forward."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.self_attn, self.multihead_attn = Attention(width), Attention(width)
        self.linear1, self.linear2 = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(
        self, x: Tensor, place: Tensor, past: tuple[Tensor, Tensor] | None, memory: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """States (n, 1, width) of the position after those in `past`, and `past` with its keys and values."""
        keys, values = self.self_attn.keys(x + place, x)
        if past is not None:
            keys, values = torch.cat([past[0], keys], 2), torch.cat([past[1], values], 2)
        x = self.norm1(x + self.self_attn(x + place, keys, values))
        x = self.norm2(x + self.multihead_attn(x + place, *memory))
        return self.norm3(x + self.linear2(self.linear1(x).relu())), (keys, values)


class _Layers(nn.Module):
    """The encoder's or decoder's layers, named as in the checkpoints."""

    def __init__(self, layers: Sequence[nn.Module], norm: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        if norm is not None:
            self.norm = norm


class _InputProjection(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 1)
        self.gn = nn.GroupNorm(_NORM_GROUPS, after)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.gn(self.conv(x))
        return result


class _Positions(nn.Module):
    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(positions, width)


class Transformer(nn.Module):
    """Encodes a picture multiplied with a sentence, and decodes tokens."""

    def __init__(self, sizes: SeqtrSizes) -> None:
        super().__init__()
        width, inner = sizes.width, sizes.inner
        self.input_proj = _InputProjection(sizes.channels, width)
        self.encoder = _Layers([EncoderLayer(width, inner) for _ in range(sizes.encoder_depth)])
        layers = [DecoderLayer(width, inner) for _ in range(sizes.decoder_depth)]
        self.decoder = _Layers(layers, nn.LayerNorm(width))
        self.query_embedding = nn.Embedding(sizes.bins + 1, width)
        self.seq_positional_encoding = _Positions(sizes.positions, width)

    def encode(self, product: Tensor) -> tuple[Tensor, Tensor]:
        """(n, channels, h, w) -> states (n, h * w, width), and the position encoding (h * w, width)."""
        x = self.input_proj(product)
        places = sine_places(x.shape[2], x.shape[3], x.shape[1]).to(x)
        x = x.flatten(2).transpose(1, 2)
        for layer in self.encoder.layers:
            x = layer(x, places)
        return x, places

    def remember(self, states: Tensor, places: Tensor) -> Memory:
        """Keys and values of the encoder's states, for each layer of the decoder."""
        attentions: list[Any] = [layer.multihead_attn for layer in self.decoder.layers]
        return Memory(tuple(attention.keys(states + places, states) for attention in attentions))


class _Fc(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.fc = nn.Linear(before, after)


class Head(nn.Module):
    """The transformer, and the layers that turn its states into logits of tokens."""

    def __init__(self, sizes: SeqtrSizes) -> None:
        super().__init__()
        self.transformer = Transformer(sizes)
        width = sizes.width
        self.predictor = nn.Sequential(_Fc(width, width), _Fc(width, width), _Fc(width, sizes.bins + 1))
        if sizes.tasks:
            self.task_embedding = nn.Embedding(2, width)

    def logits(self, states: Tensor) -> Tensor:
        """(n, width) -> (n, bins + 1), the end token last."""
        first, second, last = cast(Any, self.predictor)
        return cast(Tensor, last.fc(second.fc(first.fc(states).relu()).relu()))


class Pen:
    """A sequence during generation: `write` takes the next input and returns the logits of the following token."""

    def __init__(self, head: Head, memory: Memory) -> None:
        self._head, self._memory, self._at = head, memory, 0
        self._past: list[tuple[Tensor, Tensor] | None] = [None] * len(memory.layers)

    def write(self, x: Tensor) -> Tensor:
        """The next input's embedding (n, width) -> logits (n, bins + 1)."""
        transformer = self._head.transformer
        place, x = transformer.seq_positional_encoding.embedding.weight[self._at], x[:, None]
        for i, layer in enumerate(transformer.decoder.layers):
            x, self._past[i] = layer(x, place, self._past[i], self._memory.layers[i])
        self._at += 1
        return self._head.logits(transformer.decoder.norm(x)[:, 0])

    def greedy(self, x: Tensor, steps: int, endless: int) -> TokenSequences:
        """The likeliest token at each step after the input `x`; the first `endless` are never the end token."""
        tokens: list[Tensor] = []
        chances: list[Tensor] = []
        for step in range(steps):
            logits = self.write(self._head.transformer.query_embedding(tokens[-1]) if tokens else x)
            chance, token = (logits[:, :-1] if step < endless else logits).softmax(-1).max(-1)
            tokens.append(token)
            chances.append(chance)
        return TokenSequences(torch.stack(tokens, 1), torch.stack(chances, 1))


def sine_places(rows: int, columns: int, width: int) -> Tensor:
    """Position encoding of a grid: sines and cosines of row, then of column, (rows * columns, width)."""
    half = width // 2
    waves = 10_000.0 ** (2 * (torch.arange(half, dtype=torch.float32) // 2) / half)

    def along(count: int) -> Tensor:
        angles = torch.arange(1, count + 1, dtype=torch.float32) / (count + 1e-6) * (2 * math.pi)
        angles = angles[:, None] / waves
        return torch.stack([angles[:, 0::2].sin(), angles[:, 1::2].cos()], 2).flatten(1)

    by_row = along(rows)[:, None].expand(rows, columns, half)
    by_column = along(columns)[None].expand(rows, columns, half)
    return torch.cat([by_row, by_column], 2).flatten(0, 1)
