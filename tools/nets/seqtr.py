"""SeqTR (Zhu et al., ECCV 2022): a transformer that generates a box or an outline coordinate by coordinate.

A DarkNet-53 encodes the picture and a GRU the expression. Their features are multiplied, and a transformer encodes the
product. Its decoder generates binned coordinates one after another: four for a box; x and y of each corner for an
outline, which ends with an end token.

Parameters are named as in the authors' checkpoints (`tools/models/seqtr_checkpoint.py`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

STRIDE = 32
"""Pixels per feature cell, along each side; sides of pictures are multiples of it."""

HEADS = 8
_NORM_GROUPS = 32


@dataclass(frozen=True)
class SeqtrSizes:
    """Sizes of a checkpoint's tensors; the defaults are the published ones for boxes.

    Attributes:
        base: channels of DarkNet's first layer; the last has 32 times as many.
        blocks: pairs of convolutions in each of DarkNet's stages.
        words: number of word embeddings.
        word_width: their width.
        width: width of the transformer, a multiple of 32.
        inner: width of its feed-forward layers.
        encoder_depth: number of encoder layers.
        decoder_depth: number of decoder layers.
        bins: number of bins per axis of the picture.
        positions: length of the longest sequence.
        tasks: whether the decoder gets a task embedding and generates a box, then an outline.
    """

    base: int = 32
    blocks: tuple[int, ...] = (1, 2, 8, 8, 4, 2)
    words: int = 10_000
    word_width: int = 300
    width: int = 256
    inner: int = 1024
    encoder_depth: int = 6
    decoder_depth: int = 3
    bins: int = 1000
    positions: int = 5
    tasks: bool = False

    @property
    def channels(self) -> int:
        """Channels of the picture's and of the sentence's features."""
        return 32 * self.base

    @property
    def corners(self) -> int:
        """Largest number of corners of an outline; 0 for weights that generate only boxes."""
        return (self.positions - 6) // 2 if self.tasks else (self.positions - 1) // 2 * (self.positions > 5)


@dataclass(frozen=True)
class Memory:
    """Input of the decoder's attention: keys and values (n, heads, places, width / heads) for each of its layers."""

    layers: tuple[tuple[Tensor, Tensor], ...]


@dataclass(frozen=True)
class Written:
    """Sequences: tokens (n, steps), each one's probability (n, steps). A token of `bins` is the end."""

    tokens: Tensor
    probabilities: Tensor


class Conv(nn.Module):
    """A convolution without bias, batch norm, leaky ReLU."""

    def __init__(self, before: int, after: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(after)

    def forward(self, x: Tensor) -> Tensor:
        """(n, before, h, w) -> (n, after, h / stride, w / stride)."""
        return functional.leaky_relu(self.bn(self.conv(x)), 0.1)


class Stage(nn.Module):
    """Pairs of convolutions, each narrowing and widening again; residual in DarkNet's own stages."""

    def __init__(self, channels: int, blocks: int, residual: bool = True) -> None:
        super().__init__()
        half = channels // 2
        pairs = (nn.ModuleList([Conv(channels, half, 1), Conv(half, channels, 3)]) for _ in range(blocks))
        self.module_list = nn.ModuleList(pairs)
        self._residual = residual

    def forward(self, x: Tensor) -> Tensor:
        """The shape does not change."""
        for pair in self.module_list:
            inner = nn.Sequential(*pair)  # type: ignore[misc]  # a list of them, to mypy one module
            x = inner(x) + x if self._residual else inner(x)
        return x


class Eyes(nn.Module):
    """DarkNet-53 and the first layers of YOLOv3's head."""

    OUT = (6, 8, 13)
    """The layers whose outputs are used: at 1/8, 1/16 and 1/32 of the picture's size."""

    def __init__(self, base: int, blocks: Sequence[int]) -> None:
        super().__init__()
        widths = [base * 2**i for i in range(1, 6)]
        layers: list[nn.Module] = [Conv(3, base, 3)]
        for width, count in zip(widths, blocks[:5], strict=True):
            layers += [Conv(width // 2, width, 3, stride=2), Stage(width, count)]
        top = widths[-1]
        layers += [Stage(top, blocks[5], residual=False), Conv(top, top // 2, 1), Conv(top // 2, top, 3)]
        self.darknet = nn.ModuleList(layers)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(n, 3, h, w) -> features at 1/8, 1/16 and 1/32, with 8, 16 and 32 times `base` channels."""
        maps = []
        for i, layer in enumerate(self.darknet):
            pixels = layer(pixels)
            if i in self.OUT:
                maps.append(pixels)
        return maps


class Sentence(nn.Module):
    """A bidirectional GRU over word embeddings, with the maximum of each channel over the words."""

    def __init__(self, words: int, word_width: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, word_width)
        self.lstm = nn.GRU(word_width, channels // 2, batch_first=True, bidirectional=True)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, words), 0 for padding, -> (n, channels).

        The GRU also runs over padding; its backward pass even starts there. So the padded length is part of what the
        weights were trained with.
        """
        states, _ = self.lstm(self.embedding(ids))
        result: Tensor = states.masked_fill((ids == 0)[..., None], -math.inf).amax(1)
        return result


class Fusion(nn.Module):
    """Brings the three scales of a picture down to 1/32, and multiplies them with a sentence."""

    def __init__(self, base: int) -> None:
        super().__init__()
        low, middle, top = 8 * base, 24 * base, 32 * base
        both = middle + top
        self.down_bot2mid = nn.Sequential(nn.AvgPool2d(2, 2), Conv(low, low, 3))
        self.down_mid2top = nn.Sequential(nn.AvgPool2d(2, 2), Conv(middle, middle, 3))
        self.top_project = nn.Sequential(Conv(both, both, 3), Conv(both, top, 1))

    def forward(self, scales: Sequence[Tensor]) -> Tensor:
        """The picture's half: (n, 32 * base, h / 32, w / 32), between -1 and 1."""
        low, middle, top = scales
        middle = torch.cat([self.down_bot2mid(low), middle], 1)
        joined = torch.cat([self.down_mid2top(middle), top], 1)
        result: Tensor = self.top_project(joined).tanh()
        return result


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

    def greedy(self, x: Tensor, steps: int, endless: int) -> Written:
        """The likeliest token at each step after the input `x`; the first `endless` are never the end token."""
        tokens: list[Tensor] = []
        chances: list[Tensor] = []
        for step in range(steps):
            logits = self.write(self._head.transformer.query_embedding(tokens[-1]) if tokens else x)
            chance, token = (logits[:, :-1] if step < endless else logits).softmax(-1).max(-1)
            tokens.append(token)
            chances.append(chance)
        return Written(torch.stack(tokens, 1), torch.stack(chances, 1))


class Seqtr(nn.Module):
    """The whole net; see the module's docstring."""

    def __init__(self, sizes: SeqtrSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.vis_enc = Eyes(sizes.base, sizes.blocks)
        self.lan_enc = Sentence(sizes.words, sizes.word_width, sizes.channels)
        self.fusion = Fusion(sizes.base)
        self.head = Head(sizes)

    def look(self, pixels: Tensor) -> Tensor:
        """Pictures (n, 3, h, w), RGB from 0 to 255, sides multiples of 32 -> (n, channels, h / 32, w / 32)."""
        result: Tensor = self.fusion(self.vis_enc(pixels))
        return result

    def read(self, picture: Tensor, ids: Tensor) -> Memory:
        """One picture's features (1, channels, h, w) and n sentences (n, words) -> input of the decoder's attention."""
        sentences = self.lan_enc(ids).tanh()[..., None, None]
        return self.head.transformer.remember(*self.head.transformer.encode(picture * sentences))

    def write(self, memory: Memory) -> tuple[Written | None, Written | None]:
        """A box's four tokens and an outline's tokens, as far as the weights generate them.

        An outline's tokens after its first end token have no meaning.
        """
        sizes, pen = self.sizes, Pen(self.head, memory)
        keys = memory.layers[0][0]
        if not sizes.tasks:
            start = keys.new_zeros(len(keys), sizes.width)
            if sizes.corners:
                return None, pen.greedy(start, 2 * sizes.corners + 1, 0)
            return pen.greedy(start, 4, 4), None
        box_task, outline_task = self.head.task_embedding.weight[:, None].expand(2, len(keys), -1)
        box = pen.greedy(box_task, 4, 4)
        pen.write(self.head.transformer.query_embedding(box.tokens[:, -1]))  # the outline follows the whole box
        return box, pen.greedy(outline_task, 2 * sizes.corners + 1, 4)


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
