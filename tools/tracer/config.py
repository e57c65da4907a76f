"""Settings of the tracer's backends."""

from typing import Annotated

from pydantic import Field

from namepin.tools.models.config import BlipConfig, Heads, Target, Tokens
from namepin.tools.types import Frozen
from namepin.tools.vision.config import SceneConfig


class TracerConfig(Frozen):
    """The settings of the scene, shared with the matcher, so that words are not read again."""

    scene: SceneConfig = SceneConfig()


class BlipTracerConfig(Frozen):
    """How maps are made. `target="probability", tokens="sum"` is equation 11 as printed."""

    blip: BlipConfig = BlipConfig()
    block: Annotated[int, Field(ge=0)] = 7
    """The text layer whose cross-attention is traced, 0-based; PNP-VQA's choice for the large model."""

    target: Target = "logit"
    heads: Heads = "mean"
    tokens: Tokens = "inner_mean"
