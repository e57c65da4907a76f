"""DaViT (Ding et al. 2022), a picture encoder of SEEM: attention over windows, then over channels."""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

_HEAD_WIDTH = 32
"""Channels of an attention head, and of a group of the channel attention."""

_WINDOW = 7


@dataclass(frozen=True)
class DavitSizes:
    """Sizes of a DaViT.

    Attributes:
        widths: channels of each stage.
        depths: pairs of blocks of each stage.
        kernel: kernel size of the convolutions that shrink the map between stages; 2 without, 3 with overlap.
    """

    widths: tuple[int, ...] = (128, 256, 512, 1024)
    depths: tuple[int, ...] = (1, 1, 9, 1)
    kernel: int = 2


class Embed(nn.Module):
    """A convolution that shrinks the map; the first norms after it, the others before."""

    def __init__(self, before: int, after: int, kernel: int, first: bool) -> None:
        super().__init__()
        self.first = first
        stride, padding = (4, 3) if first else (2, (kernel - 1) // 2)
        self.proj = nn.Conv2d(before, after, kernel, stride=stride, padding=padding)
        self.norm = nn.LayerNorm(after if first else before)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, h, w, before) -> (rows, h / stride, w / stride, after)."""
        if not self.first:
            x = self.norm(x)
        x = self.proj(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.norm(x) if self.first else x


class Depthwise(nn.Module):
    """A depth-wise convolution, which also encodes positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, h, w, width) -> the same."""
        output: Tensor = self.dw(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return output


class WindowAttention(nn.Module):
    """Attention among the places of a window; a map is padded with zeros to whole windows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // _HEAD_WIDTH)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, h, w, width) -> the same."""
        rows, height, width, channels = x.shape
        x = functional.pad(x, (0, 0, 0, -width % _WINDOW, 0, -height % _WINDOW))
        down, across = x.shape[1] // _WINDOW, x.shape[2] // _WINDOW
        x = x.reshape(rows, down, _WINDOW, across, _WINDOW, channels).transpose(2, 3)
        x = x.reshape(-1, _WINDOW**2, channels)
        qkv = self.qkv(x).reshape(len(x), _WINDOW**2, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        attention = ((query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)).softmax(dim=-1)
        x = self.proj((attention @ value).transpose(1, 2).reshape(len(x), _WINDOW**2, channels))
        x = x.reshape(rows, down, across, _WINDOW, _WINDOW, channels).transpose(2, 3)
        return x.reshape(rows, down * _WINDOW, across * _WINDOW, channels)[:, :height, :width]


class ChannelAttention(nn.Module):
    """Attention among the channels of a group, over all places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.groups = max(1, width // _HEAD_WIDTH)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, h, w, width) -> the same."""
        rows, height, width, channels = x.shape
        places = height * width
        qkv = self.qkv(x).reshape(rows, places, 3, self.groups, -1).permute(2, 0, 3, 4, 1)
        query, key, value = qkv.unbind(0)
        attention = ((query * places**-0.5) @ key.transpose(-2, -1)).softmax(dim=-1)
        mixed = (attention @ value).permute(0, 3, 1, 2).reshape(rows, height, width, channels)
        output: Tensor = self.proj(mixed)
        return output


class Residual(nn.Module):
    """`x + fn(norm(x))`."""

    def __init__(self, fn: nn.Module, width: int | None = None) -> None:
        super().__init__()
        self.norm = None if width is None else nn.LayerNorm(width)
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """(rows, h, w, width) -> the same."""
        output: Tensor = x + self.fn(x if self.norm is None else self.norm(x))
        return output


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers = (("fc1", nn.Linear(width, 4 * width)), ("act", nn.GELU()), ("fc2", nn.Linear(4 * width, width)))
        self.net = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        output: Tensor = self.net(x)
        return output


def _block(width: int, name: str, attention: nn.Module) -> nn.Sequential:
    parts: list[tuple[str, nn.Module]] = [
        ("conv1", Residual(Depthwise(width))),
        (name, Residual(attention, width)),
        ("conv2", Residual(Depthwise(width))),
        ("ffn", Residual(FeedForward(width), width)),
    ]
    return nn.Sequential(OrderedDict(parts))


def _pair(width: int) -> nn.Sequential:
    spatial = _block(width, "window_attn", WindowAttention(width))
    channels = _block(width, "channel_attn", ChannelAttention(width))
    return nn.Sequential(OrderedDict((("spatial_block", spatial), ("channel_block", channels))))


class Davit(nn.Module):
    """Encodes a picture as a feature pyramid."""

    def __init__(self, sizes: DavitSizes) -> None:
        super().__init__()
        self.widths = sizes.widths
        stages = list(zip((3, *sizes.widths), sizes.widths, sizes.depths, strict=False))
        self.convs = nn.ModuleList(
            Embed(before, after, 7 if i == 0 else sizes.kernel, first=i == 0)
            for i, (before, after, _) in enumerate(stages)
        )
        self.blocks = nn.ModuleList(nn.Sequential(*(_pair(width) for _ in range(depth))) for _, width, depth in stages)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(rows, 3, h, w), sides multiples of 32 -> maps of 1/4, 1/8, 1/16 and 1/32 of the size, channels first."""
        x, maps = pixels.permute(0, 2, 3, 1), []
        for conv, blocks in zip(self.convs, self.blocks, strict=True):
            x = blocks(conv(x))
            maps.append(x.permute(0, 3, 1, 2))
        return maps
