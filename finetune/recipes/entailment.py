"""Settings of the entailment's recipes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from namepin.finetune.loop.settings import Positive, Rate
from namepin.finetune.recipes.visual import VisualTraining
from namepin.tools.referring import Reading


@dataclass(frozen=True, kw_only=True)
class EntailmentTraining(VisualTraining):
    """Settings of every backend.

    Attributes:
        expansions: JSONL files of `{"id", "text", "expansion"}` for the training split; several are RiVEG's "Mix".
        dev_expansions: one such file for the dev split.
        text: part of the expression that is read, for RiVEG's Table X; should equal `expression.text` of the profile.
    """

    out: str = "out/entailment"
    lr: Rate = 2e-5
    text: Reading = "both"
    expansions: tuple[str, ...] = ()
    dev_expansions: str = ""


@dataclass(frozen=True, kw_only=True)
class OfaEntailmentRecipe(EntailmentTraining):
    """RiVEG's settings for OFA-large (section V-A): 6 epochs at 2e-5 in batches of 32.

    Attributes:
        weights: initial OFA: a folder, a `.pt` file, or a name on the hub.
        tokenizer: for a `.pt` without a vocabulary in its folder.
        captions: JSONL of `{"id", "caption"}` for the training split: OFA's question has a place for it.
        dev_captions: the same for the dev split.
        image_size: side of the square that pictures are resized to, in pixels.
        dropout: dropout of embeddings and residual branches, as in OFA's own tuning.
        drop_path: rate at which a row's residual branches are left out in the last layer; earlier layers have less.
    """

    backend: Literal["ofa"] = "ofa"
    batch_size: Positive = 32
    epochs: Positive = 6
    weights: str = "OFA-Sys/ofa-large"
    tokenizer: str = "OFA-Sys/ofa-large"
    captions: str = ""
    dev_captions: str = ""
    image_size: Positive = 480
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.2


@dataclass(frozen=True, kw_only=True)
class AlbefEntailmentRecipe(EntailmentTraining):
    """RiVEG's settings for ALBEF-14M (section V-A): 5 epochs at 2e-5 in batches of 24.

    Attributes:
        weights: initial ALBEF; a pre-trained one gets a new head of two classes.
        tokenizer: the tokenizer of bert-base-uncased, as a folder or hub name.
        image_size: side of the square picture in pixels.
    """

    backend: Literal["albef"] = "albef"
    batch_size: Positive = 24
    epochs: Positive = 5
    weights: str = "ALBEF.pth"
    tokenizer: str = "google-bert/bert-base-uncased"
    image_size: Positive = 384


@dataclass(frozen=True, kw_only=True)
class BlipEntailmentRecipe(EntailmentTraining):
    """BLIP for entailment. The paper has no such row, so the settings are GEM's for its matcher.

    Attributes:
        weights: initial BLIP: a folder, an original `.pth` file, or a name on the hub.
        tokenizer: for an original file, which has no tokenizer.
        attend: weight of the loss of `namepin.finetune.attention_loss`; ours, off by default.
    """

    backend: Literal["blip"] = "blip"
    lr: Rate = 5e-5
    weights: str = "Salesforce/blip-itm-large-coco"
    tokenizer: str = "google-bert/bert-base-uncased"
    attend: Annotated[float, Field(ge=0)] = 0.0


RECIPES = {"ofa": OfaEntailmentRecipe, "albef": AlbefEntailmentRecipe, "blip": BlipEntailmentRecipe}
