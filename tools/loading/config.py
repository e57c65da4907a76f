"""Which encoder is the starter's, and where a large model is put: settings of several roles."""

from typing import Literal

from namepin.tools.types import Frozen

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


class Placement(Frozen):
    """Of a model's weights."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    quantization: Literal["none", "8bit", "4bit"] = "none"
    """Of the weights, by bitsandbytes, on a CUDA device."""
