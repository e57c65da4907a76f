"""Sizes of an OFA, and the values passed between its parts."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class OfaSizes:
    """Sizes from a checkpoint's shapes and settings; the defaults are those of OFA-large."""

    vocabulary: int = 59457
    width: int = 1024
    inner: int = 4096
    encoder_layers: int = 12
    decoder_layers: int = 12
    heads: int = 16
    positions: int = 1024
    """Number of token positions, in the encoder and in the decoder."""
    token_bucket: int = 256
    """Number of buckets for token distances; from half of it on, distances share buckets on a logarithmic scale."""
    image_bucket: int = 42
    """Largest number of rows of patches, and of columns."""
    blocks: tuple[int, int, int] = (3, 8, 36)
    """Blocks of the ResNet's three stages: (3, 8, 36) is ResNet-152 without its last stage."""
    scale_attn: bool = True
    """Whether there is a norm after each attention."""
    scale_fc: bool = True
    """Whether there is a norm inside the MLP."""
    scale_heads: bool = True
    """Whether each attention head has a learned weight."""
    scale_resids: bool = False
    """Whether the MLP's residual has a learned weight per channel."""
    attn_scale_factor: float = 2.0
    """Scores and position biases are each divided by the square root of the head's width times this."""
    batch_norm_eps: float = 1e-5
    """1e-3 where OFA was trained with synchronised batch norms."""
    entangled: bool = False
    """Whether the decoder also adds positions to its tokens, as OFA trained without `--disable-entangle` does."""

    @property
    def head(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def scale(self) -> float:
        """Factor of the scores, and of the position biases."""
        return float((self.head * self.attn_scale_factor) ** -0.5)


@dataclass(frozen=True)
class Patches:
    """Pictures as input of the encoder.

    Attributes:
        states: (n, rows * columns, width), row by row.
        rows: number of rows of patches.
        columns: number of columns of patches.
    """

    states: Tensor
    rows: int
    columns: int


@dataclass(frozen=True)
class Memory:
    """Output of the encoder for the decoder.

    Attributes:
        states: (n, patches + tokens, width).
        mask: (n, patches + tokens), true where attention is allowed; None allows it everywhere.
        positions: (1, patches + tokens, width), the normed position embeddings.
    """

    states: Tensor
    mask: Tensor | None
    positions: Tensor
