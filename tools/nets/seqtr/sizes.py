"""Sizes of a SeqTR, and the values passed between its parts."""

from dataclasses import dataclass

from torch import Tensor

STRIDE = 32
"""Pixels per feature cell, along each side; sides of pictures are multiples of it."""

HEADS = 8


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
class TokenSequences:
    """Sequences: tokens (n, steps), each one's probability (n, steps). A token of `bins` is the end."""

    tokens: Tensor
    probabilities: Tensor
