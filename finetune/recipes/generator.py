"""Settings of the recipe of the unified generative baseline."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from namepin.finetune.loop.settings import Positive, Rate
from namepin.finetune.recipes.visual import VisualTraining


@dataclass(frozen=True, kw_only=True)
class GeneratorRecipe(VisualTraining):
    """A small T5 or BART that writes entities, types and regions in one sequence, in the manner of H-Index and TIGER.

    It reads a detector's regions and the text. The settings are ours; neither GEM nor RiVEG trains such a model.

    Attributes:
        weights: initial T5 or BART: a folder or a name on the hub.
        vision: initial ResNet that reads the regions, frozen; like `weights`.
        regions: a detector's boxes of the training split, as `namepin data regions` writes them.
        dev_regions: the same of the dev split.
        top: number of regions of a picture that are read.
        region_size: side of the square that a region is resized to, in pixels.
        longest: largest number of tokens of a text, and of an answer.
    """

    backend: Literal["unified"] = "unified"
    out: str = "out/generator"
    lr: Rate = 1e-4
    batch_size: Positive = 16
    epochs: Positive = 20
    weights: str = "google-t5/t5-small"
    vision: str = "microsoft/resnet-50"
    regions: str = ""
    dev_regions: str = ""
    top: Annotated[int, Field(ge=1, le=100)] = 18
    region_size: Annotated[int, Field(ge=32)] = 224
    longest: Positive = 256


RECIPES = {"unified": GeneratorRecipe}
"""The recipes by backend; the first is the default."""
