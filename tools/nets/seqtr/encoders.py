"""The encoders of SeqTR: DarkNet-53 for the picture, a GRU for the expression, and the fusion of both."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


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


class VisionEncoder(nn.Module):
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


class SentenceEncoder(nn.Module):
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
