"""FocalNet (Yang et al. 2022), the picture encoder of SEEM Focal-T and Focal-L.

The two differ: Focal-T ("dw") adds a depth-wise convolution before modulation and MLP, and norms after the residual
sum; Focal-L norms the branch before the sum, and its stem is padded by one pixel less.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class FocalSizes:
    """Sizes of a FocalNet.

    Attributes:
        width: channels of the first stage; each further stage has twice as many.
        depths: blocks of each stage.
        levels: focal levels; level k has a kernel of `window + 2 * k`.
        window: kernel of the first level.
        depthwise: use Focal-T's blocks instead of Focal-L's.
    """

    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    levels: int = 3
    window: int = 3
    depthwise: bool = True

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage's map."""
        return tuple(self.width * 2**stage for stage in range(len(self.depths)))


class Modulation(nn.Module):
    """Each position multiplied by a gated sum of its surroundings at growing widths."""

    def __init__(self, width: int, levels: int, window: int) -> None:
        super().__init__()
        self.width, self.levels = width, levels
        self.f = nn.Linear(width, 2 * width + levels + 1)
        self.h = nn.Conv2d(width, width, 1)
        self.proj = nn.Linear(width, width)
        kernels = [window + 2 * level for level in range(levels)]
        self.focal_layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, k, padding=k // 2, groups=width, bias=False), nn.GELU())
            for k in kernels
        )

    def forward(self, x: Tensor) -> Tensor:
        """(rows, h, w, width) -> the same."""
        query, context, gates = self.f(x).permute(0, 3, 1, 2).split((self.width, self.width, self.levels + 1), dim=1)
        gathered = torch.zeros_like(context)
        for level, layer in enumerate(self.focal_layers):
            context = layer(context)
            gathered = gathered + context * gates[:, level : level + 1]
        everywhere = functional.gelu(context.mean(dim=(2, 3), keepdim=True))
        gathered = (gathered + everywhere * gates[:, self.levels :]) / (self.levels + 1)
        modulated: Tensor = self.proj((query * self.h(gathered)).permute(0, 2, 3, 1))
        return modulated


class FeedForward(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        output: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return output


class Block(nn.Module):
    """Focal-L's block: modulation and MLP, each normed and scaled before it is added."""

    def __init__(self, width: int, levels: int, window: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.modulation = Modulation(width, levels, window)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width)
        self.gamma_1 = nn.Parameter(torch.ones(width))
        self.gamma_2 = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(rows, h, w, width) -> the same."""
        x = x + self.gamma_1 * self.norm1(self.modulation(x))
        x = x + self.gamma_2 * self.norm2(self.mlp(x))
        return x


class DepthwiseBlock(Block):
    """Focal-T's block: a depth-wise convolution before each half, the norm after the sum."""

    def __init__(self, width: int, levels: int, window: int) -> None:
        super().__init__(width, levels, window)
        self.dw1 = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.dw2 = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, h, w, width) -> the same."""
        x = x + _channels_last(self.dw1, x)
        x = self.norm1(x + self.gamma_1 * self.modulation(x))
        x = x + _channels_last(self.dw2, x)
        x = self.norm2(x + self.gamma_2 * self.mlp(x))
        return x


def _channels_last(conv: nn.Module, x: Tensor) -> Tensor:
    output: Tensor = conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    return output


class Embed(nn.Module):
    """An overlapping convolution that shrinks the map, and a norm."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, padding: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(before, after, kernel, stride=stride, padding=padding)
        self.norm = nn.LayerNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, before, h, w) -> (rows, h / stride, w / stride, after)."""
        output: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return output


class Stage(nn.Module):
    """Blocks at one resolution, and the downsampling to the next."""

    def __init__(self, sizes: FocalSizes, stage: int) -> None:
        super().__init__()
        width = sizes.widths[stage]
        kind = DepthwiseBlock if sizes.depthwise else Block
        self.blocks = nn.Sequential(*(kind(width, sizes.levels, sizes.window) for _ in range(sizes.depths[stage])))
        last = stage == len(sizes.depths) - 1
        self.downsample = None if last else Embed(width, 2 * width, kernel=3, stride=2, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, h, w, width) -> the same, and the next stage's map (again the same after the last stage)."""
        x = self.blocks(x)
        return x, x if self.downsample is None else self.downsample(x.permute(0, 3, 1, 2))


class FocalNet(nn.Module):
    """Encodes a picture as a feature pyramid."""

    def __init__(self, sizes: FocalSizes) -> None:
        super().__init__()
        self.widths = sizes.widths
        self.patch_embed = Embed(3, sizes.width, kernel=7, stride=4, padding=3 if sizes.depthwise else 2)
        self.layers = nn.ModuleList(Stage(sizes, stage) for stage in range(len(sizes.depths)))
        for stage, width in enumerate(sizes.widths):
            self.add_module(f"norm{stage}", nn.LayerNorm(width))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """(rows, 3, h, w), sides multiples of 32 -> maps of 1/4, 1/8, 1/16 and 1/32 of the size, channels first."""
        smaller, maps = self.patch_embed(pixels), []
        for stage, layer in enumerate(self.layers):
            x, smaller = layer(smaller)
            maps.append(self.get_submodule(f"norm{stage}")(x).permute(0, 3, 1, 2))
        return maps
