"""Settings of the grounder's recipes."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from namepin.finetune.loop.settings import Jitter, Positive, Rate, Share
from namepin.finetune.recipes.visual import VisualTraining
from namepin.tools.grounder.config import Phrase
from namepin.tools.referring import Reading


@dataclass(frozen=True, kw_only=True)
class OfaGrounderRecipe(VisualTraining):
    """RiVEG's settings for OFA-large (section V-A): 10 epochs at 3e-5 in batches of 32.

    Attributes:
        weights: initial OFA: a folder, a `.pt` file, or a name on the hub.
        tokenizer: for a `.pt` without a vocabulary in its folder.
        expansions: JSONL files of `{"id", "text", "expansion"}` for the training split; several are RiVEG's "Mix".
        dev_expansions: one such file for the dev split.
        image_size: side of the square that pictures are resized to, in pixels.
        smoothing: label smoothing.
        jitter: every edge of a target box is moved by up to this share of the box's side; ours, off by default.
        beams: number of beams of the search on dev.
        text: part of the expression that is read, for RiVEG's Table X; should equal `expression.text` of the profile.
        ungroundable: also train on mentions that are not in the picture, with the box (0, 0, 0, 0). The tool returns no
            box for it. This is grounding without entailment (section IV-C1, footnote 3).
    """

    backend: Literal["ofa"] = "ofa"
    out: str = "out/grounder"
    lr: Rate = 3e-5
    batch_size: Positive = 32
    epochs: Positive = 10
    weights: str = "OFA-Sys/ofa-large"
    tokenizer: str = "OFA-Sys/ofa-large"
    expansions: tuple[str, ...] = ()
    dev_expansions: str = ""
    image_size: Positive = 512
    smoothing: Share = 0.1
    jitter: Jitter = 0.0
    beams: Positive = 5
    text: Reading = "both"
    ungroundable: bool = False


@dataclass(frozen=True, kw_only=True)
class MmGroundingDinoRecipe(VisualTraining):
    """LoRA on MM-Grounding-DINO, with its own loss of matched boxes. The paper has no such row; the settings are ours.

    Attributes:
        expansions: JSONL files of `{"id", "text", "expansion"}` for the training split; several are RiVEG's "Mix".
        dev_expansions: one such file for the dev split.
        weights: a transformers folder, or a name on the hub.
        phrase: the part of the expression that is sent to the net, as in the tool.
        short_side: length of the picture's shorter side as the net reads it, in pixels.
        long_side: largest length of its longer side, in pixels.
        rank: LoRA's rank.
        alpha: LoRA's scale.
        dropout: dropout of LoRA's input.
        jitter: every edge of a target box is moved by up to this share of the box's side; off by default.
    """

    backend: Literal["mmgdino"] = "mmgdino"
    out: str = "out/grounder"
    expansions: tuple[str, ...] = ()
    dev_expansions: str = ""
    lr: Rate = 1e-4
    epochs: Positive = 10
    weights: str = "openmmlab-community/mm_grounding_dino_large_all"
    phrase: Phrase = "expansion"
    short_side: Annotated[int, Field(ge=32)] = 800
    long_side: Annotated[int, Field(ge=32)] = 1333
    rank: Positive = 16
    alpha: Positive = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    jitter: Jitter = 0.0


RECIPES = {"ofa": OfaGrounderRecipe, "mmgdino": MmGroundingDinoRecipe}
