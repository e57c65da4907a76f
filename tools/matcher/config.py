"""Settings of the matcher's backends, and of the tracers that share their models."""

from typing import Annotated, Literal

from pydantic import Field

from namepin.tools.models.config import BlipConfig, Owlv2Config, Target
from namepin.tools.types import Frozen
from namepin.tools.vision.config import SceneConfig


class MatcherConfig(Frozen):
    """Settings of the starter matcher: only the scene."""

    scene: SceneConfig = SceneConfig()


class Owlv2MatcherConfig(MatcherConfig):
    """The scene of the starter, and the detector that looks for things."""

    owlv2: Owlv2Config = Owlv2Config()
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """The detector's score from which a thing counts as seen; the authors' demonstrations show boxes from 0.1 to 0.3.
    It was not calibrated here."""

    absent_below: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """An animal, a product or a building whose score is below this is "not in the picture". With 0, a miss never tells:
    no such score has been measured."""


class BlipMatcherConfig(Frozen):
    """The BLIP of the matcher. A tracer of equal `blip` shares the loaded weights."""

    blip: BlipConfig = BlipConfig()


class Blip2Config(Frozen):
    """The BLIP-2, and how it runs."""

    weights: str = "Salesforce/blip2-itm-vit-g"
    """A transformers folder, or a name on the hub."""

    revision: str | None = None
    max_text_tokens: Annotated[int, Field(ge=8)] = 32
    """Largest number of tokens, with [CLS] and [SEP]; BLIP-2's own bound. A longer mention is cut, not its category."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the vision encoder's weights; the Q-Former stays in float32."""

    text_batch: Annotated[int, Field(gt=0)] = 16
    cached_pictures: Annotated[int, Field(ge=0)] = 16


class Blip2MatcherConfig(Frozen):
    """The BLIP-2 of the matcher. A tracer of equal `blip2` shares the loaded weights."""

    blip2: Blip2Config = Blip2Config()


class Blip2TracerConfig(Frozen):
    """How maps are made."""

    blip2: Blip2Config = Blip2Config()
    target: Target = "probability"


class LlavaConfig(Frozen):
    """The LLaVA, and how it runs."""

    weights: str = "llava-hf/llava-1.5-7b-hf"
    """A transformers folder, or a name on the hub; a tuned one may have its adapter merged in."""

    revision: str | None = None
    adapter: str | None = None
    """A folder with a LoRA adapter for the task `match` (`namepin.tools.loading.adapters`); None runs the
    weights without one."""

    max_characters: Annotated[int, Field(gt=0)] = 300
    """Largest number of tokens of a mention; the rest is cut."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    text_batch: Annotated[int, Field(gt=0)] = 4
    cached_pictures: Annotated[int, Field(ge=0)] = 4


class LlavaMatcherConfig(Frozen):
    """The LLaVA of the matcher. A tracer of equal `llava` shares the loaded weights."""

    llava: LlavaConfig = LlavaConfig()


class LlavaTracerConfig(Frozen):
    """How maps are made."""

    llava: LlavaConfig = LlavaConfig()
    target: Target = "probability"
