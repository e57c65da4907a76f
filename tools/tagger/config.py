"""Settings of the tagger."""

from typing import Literal

from pydantic import Field

from namepin.tools.types import Frozen

Scheme = Literal["4", "4/51", "8/51"]
"""Coarse types / fine types of a tagger; `4` alone has no fine types."""


class TaggerConfig(Frozen):
    """How the tagger runs.

    Attributes:
        adapter: name of an adapter that ships with Namepin, an adapter's folder, or a repository of the hub.
        spans: `coarse`: the coarse path decides spans and coarse types, and the fine path's pooled scores decide the
            fine type within them. `fine`: the fine path's CRF decides all (the paper's reading). `joint`: the fine
            path's CRF decides spans and coarse types from the sum of both paths' logits, and the pooled scores decide
            the fine type.
        merge: how equation 10 merges the B- and I- logits of a type.
        lexicon: weight of the lexicon's votes (`namepin.tools.tagger.lexicon`) relative to the pooled scores of
            equation 10; 0 leaves them out, as in the paper.
        batch_size: largest number of rows per batch of the encoder; long rows come in smaller batches.
        device: the torch device.
        precision: number format of the encoder's matrix products, on a CPU. `bfloat16` and `int8` are faster where the
            processor has instructions for them, and change scores by about 0.01. `auto` takes bfloat16 on a processor
            with matrix tiles, if it passes a self-test, so its results differ between kinds of processors.
    """

    adapter: str = "starter-tagger"
    spans: Literal["coarse", "fine", "joint"] = "coarse"
    merge: Literal["logsumexp", "sum", "mean"] = "logsumexp"
    lexicon: float = Field(0.0, ge=0)
    batch_size: int = Field(64, ge=1)
    device: str = "cpu"
    precision: Literal["float32", "bfloat16", "int8", "auto"] = "float32"
