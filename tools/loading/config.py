"""Settings shared by several roles: the encoders of our own taggers, and the device and precision of a large model."""

from typing import Literal

from namepin.tools.types import Frozen

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
MPNET = "sentence-transformers/all-mpnet-base-v2"


class Placement(Frozen):
    """Data type of a model's weights."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Quantisation of the weights by bitsandbytes, on a CUDA device."""
