"""What describes an OFA, and what passes between its parts."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class OfaSizes:
    """What a checkpoint's shapes and settings tell; the defaults are OFA-large's."""

    vocabulary: int = 59457
    width: int = 1024
    inner: int = 4096
    encoder_layers: int = 12
    decoder_layers: int = 12
    heads: int = 16
    positions: int = 1024
    """Places for words, in the encoder and in the decoder."""
    token_bucket: int = 256
    """Distances between words from half of it on share buckets, on a logarithmic scale."""
    image_bucket: int = 42
    """The most rows of patches, and columns."""
    blocks: tuple[int, int, int] = (3, 8, 36)
    """Of the ResNet's three stages: (3, 8, 36) is ResNet-152 without its last stage."""
    scale_attn: bool = True
    """A norm after each attention."""
    scale_fc: bool = True
    """A norm inside the perceptron."""
    scale_heads: bool = True
    """A learned weight a head."""
    scale_resids: bool = False
    """A learned weight a channel on the perceptron's residual."""
    attn_scale_factor: float = 2.0
    """Scores and position biases are each divided by the root of the head's width times this."""
    batch_norm_eps: float = 1e-5
    """1e-3 where OFA was trained with synchronised batch norms."""
    entangled: bool = False
    """The decoder also adds positions to its tokens, as where OFA was trained without `--disable-entangle`."""

    @property
    def head(self) -> int:
        """Channels of a head."""
        return self.width // self.heads

    @property
    def scale(self) -> float:
        """Of scores, and of position biases."""
        return float((self.head * self.attn_scale_factor) ** -0.5)


@dataclass(frozen=True)
class Patches:
    """Pictures as the encoder takes them.

    Attributes:
        states: (n, rows * columns, width), row by row.
        rows: of patches.
        columns: of patches.
    """

    states: Tensor
    rows: int
    columns: int


@dataclass(frozen=True)
class Memory:
    """What the encoder leaves for the decoder.

    Attributes:
        states: (n, patches + tokens, width).
        mask: (n, patches + tokens), true where there is something to attend to; None where that is everywhere.
        positions: (1, patches + tokens, width), the normed position embeddings.
    """

    states: Tensor
    mask: Tensor | None
    positions: Tensor
