"""Settings of the matcher's recipes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from namepin.finetune.loop.settings import Positive, Rate, Share
from namepin.finetune.recipes.visual import VisualTraining


@dataclass(frozen=True, kw_only=True)
class MatcherTraining(VisualTraining):
    """GEM's settings (appendix: one epoch at 5e-5, for BLIP); settings that the paper does not give are marked ours.

    Attributes:
        weights: initial net: a transformers folder, or a name on the hub.
        negatives: number of names of other posts per mention, labelled as no match; ours, off by default.
        alike: share of the negatives that have the mention's type. The others have a type of no mention in
            the picture's posts.
    """

    out: str = "out/matcher"
    lr: Rate = 5e-5
    epochs: Positive = 1
    weights: str
    negatives: Annotated[float, Field(ge=0, le=10)] = 0.0
    alike: Share = 1.0


@dataclass(frozen=True, kw_only=True)
class MatcherRecipe(MatcherTraining):
    """The paper's matcher, BLIP with its matching head; attributes as `MatcherTraining`.

    Attributes:
        weights: as there, or an original `.pth` file.
        tokenizer: for an original file, which has no tokenizer.
        attend: weight of the loss of `namepin.finetune.attention_loss`; ours, off by default.
    """

    backend: Literal["blip"] = "blip"
    weights: str = "Salesforce/blip-itm-large-coco"
    tokenizer: str = "google-bert/bert-base-uncased"
    attend: Annotated[float, Field(ge=0)] = 0.0


@dataclass(frozen=True, kw_only=True)
class Blip2MatcherRecipe(MatcherTraining):
    """BLIP-2 as matcher (section 5.2). Its Q-Former and matching head are trained, its vision encoder is frozen."""

    backend: Literal["blip2"] = "blip2"
    weights: str = "Salesforce/blip2-itm-vit-g"


@dataclass(frozen=True, kw_only=True)
class LlavaMatcherRecipe(MatcherTraining):
    """LLaVA as matcher (section 5.2), with LoRA as in the reranker; attributes as `MatcherTraining`.

    Attributes:
        rank: LoRA's rank.
        alpha: LoRA's scale.
        dropout: dropout of LoRA's input.
        dtype: number type of the base model.
    """

    backend: Literal["llava"] = "llava"
    weights: str = "llava-hf/llava-1.5-7b-hf"
    rank: Positive = 64
    alpha: Positive = 16
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"


RECIPES = {"blip": MatcherRecipe, "blip2": Blip2MatcherRecipe, "llava": LlavaMatcherRecipe}
