"""OFA's vision encoder: the first three stages of a ResNet (v1.5), one feature for every 16 x 16 pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

STAGES = (64, 128, 256)
EXPANSION = 4
CHANNELS = STAGES[-1] * EXPANSION
"""Channels of the output features."""


class ResNet(nn.Module):
    """Pictures (n, 3, height, width) to features (n, 1024, height / 16, width / 16), rounded up."""

    def __init__(self, blocks: tuple[int, ...], eps: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, STAGES[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(STAGES[0], eps=eps)
        channels = STAGES[0]
        for index, (inner, count) in enumerate(zip(STAGES, blocks, strict=True)):
            stage = nn.Sequential()
            for block in range(count):
                stage.append(Bottleneck(channels, inner, stride=2 if index and not block else 1, eps=eps))
                channels = inner * EXPANSION
            self.add_module(f"layer{index + 1}", stage)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        states = functional.max_pool2d(functional.relu(self.bn1(self.conv1(pixels))), 3, stride=2, padding=1)
        for index in range(len(STAGES)):
            states = self.get_submodule(f"layer{index + 1}")(states)
        return states


class Bottleneck(nn.Module):
    """Narrow, convolve (with the stride) and widen, with a residual connection."""

    def __init__(self, channels: int, inner: int, stride: int, eps: float) -> None:
        super().__init__()
        outer = inner * EXPANSION
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner, eps=eps)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner, eps=eps)
        self.conv3 = nn.Conv2d(inner, outer, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outer, eps=eps)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or channels != outer:
            resized = nn.Conv2d(channels, outer, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(resized, nn.BatchNorm2d(outer, eps=eps))

    def forward(self, states: Tensor) -> Tensor:
        """(n, channels, height, width) to (n, 4 * inner, height / stride, width / stride)."""
        inner = functional.relu(self.bn1(self.conv1(states)))
        inner = functional.relu(self.bn2(self.conv2(inner)))
        return torch.relu(self.bn3(self.conv3(inner)) + self.downsample(states))
