"""SEEM's pixel decoder: a transformer over the smallest map, and a feature pyramid back up to 1/4 of the picture."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from namepin.tools.nets.seem.layers import Attention, NormedConv, sine_positions, to_sequence


class EncoderLayer(nn.Module):
    """One layer over a map's places, norms last; positions are added to queries and keys only."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """(rows, places, width) -> the same."""
        placed = x + positions
        x = self.norm1(x + self.self_attn.attend(placed, placed, x))
        output: Tensor = self.norm2(x + self.linear2(functional.relu(self.linear1(x))))
        return output


class _Layers(nn.Module):
    def __init__(self, width: int, inner: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(width, inner) for _ in range(depth))


class _Transformer(nn.Module):
    def __init__(self, width: int, inner: int, depth: int) -> None:
        super().__init__()
        self.encoder = _Layers(width, inner, depth)


class PixelDecoder(nn.Module):
    """From the encoder's four maps to three for the mask decoder, and the mask features."""

    def __init__(self, widths: Sequence[int], width: int, masks: int, inner: int, depth: int) -> None:
        super().__init__()
        self.width = width
        for level, before in enumerate(widths[:-1], start=1):
            self.add_module(f"adapter_{level}", NormedConv(before, width, 1))
            self.add_module(f"layer_{level}", NormedConv(width, width, 3))
        self.top = len(widths)
        self.add_module(f"layer_{self.top}", NormedConv(width, width, 3))
        self.input_proj = nn.Conv2d(widths[-1], width, 1)
        self.transformer = _Transformer(width, inner, depth)
        self.mask_features = nn.Conv2d(width, masks, 3, padding=1)

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Maps of 1/4 to 1/32 of the picture -> maps of 1/32, 1/16 and 1/8, and the mask features, of 1/4."""
        x = self._smallest(maps[-1])
        levels = [x]
        for level in range(self.top - 1, 0, -1):
            lateral = self._layer(f"adapter_{level}", maps[level - 1])
            x = lateral + functional.interpolate(x, size=lateral.shape[-2:], mode="nearest")
            x = functional.relu(self._layer(f"layer_{level}", x))
            levels.append(x)
        return levels[:3], self.mask_features(x)

    def _smallest(self, features: Tensor) -> Tensor:
        rows, _, height, width = features.shape
        x = to_sequence(self.input_proj(features))
        positions = sine_positions(height, width, self.width, x)
        for layer in self.transformer.encoder.layers:
            x = layer(x, positions)
        x = x.transpose(1, 2).reshape(rows, self.width, height, width)
        return functional.relu(self._layer(f"layer_{self.top}", x))

    def _layer(self, name: str, x: Tensor) -> Tensor:
        output: Tensor = self.get_submodule(name)(x)
        return output
