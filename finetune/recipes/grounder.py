"""Settings of the grounder's recipes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from namepin.finetune.loop.settings import Jitter, Positive, Rate, Share
from namepin.finetune.recipes.visual import VisualTraining
from namepin.tools.grounder.config import Phrase
from namepin.tools.referring import Reading

if TYPE_CHECKING:
    from torch import nn


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
        dropout: dropout of embeddings and residual branches, as in OFA's own tuning.
        drop_path: rate at which a row's residual branches are left out in the last layer; earlier layers have less.
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
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.2
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


@dataclass(frozen=True, kw_only=True)
class SeqtrRecipe(VisualTraining):
    """RiVEG's settings for SeqTR (section V-A3c): 10 epochs at 5e-4 in batches of 64, at most 30 words.

    The vocabulary is that of the expressions of train and dev, as the paper says of its own; words that the initial
    weights know keep their embeddings.

    Attributes:
        weights: initial SeqTR for boxes: a `.pth` file of the authors' code, or a folder.
        vocabulary: JSON file of its vocabulary; empty for `token_to_ix.json` beside the weights.
        expansions: JSONL files of `{"id", "text", "expansion"}` for the training split; several are RiVEG's "Mix".
        dev_expansions: one such file for the dev split.
        lr_vision: learning rate of DarkNet, a tenth of the others' as in the authors' code.
        max_words: number of words that are read of an expression.
        image_size: longer side of the picture, in pixels.
        smoothing: label smoothing of the bins, as in the authors' code.
        text: part of the expression that is read, for RiVEG's Table X; should equal `expression.text` of the profile.
        ungroundable: also train on mentions that are not in the picture, with the box (0, 0, 0, 0) (footnote 3).
    """

    backend: Literal["seqtr"] = "seqtr"
    out: str = "out/grounder"
    lr: Rate = 5e-4
    lr_vision: Rate = 5e-5
    batch_size: Positive = 64
    epochs: Positive = 10
    weights: str = "det_best.pth"
    vocabulary: str = ""
    expansions: tuple[str, ...] = ()
    dev_expansions: str = ""
    max_words: Positive = 30
    image_size: Annotated[int, Field(ge=32, le=2048)] = 640
    smoothing: Share = 0.1
    text: Reading = "both"
    ungroundable: bool = False

    def parameter_groups(self, net: "nn.Module") -> list[dict[str, Any]]:
        """Two groups: DarkNet at its own rate, and the rest."""
        vision, rest = list[Any](), list[Any]()
        for name, parameter in net.named_parameters():
            (vision if name.startswith("vis_enc.") else rest).append(parameter)
        return [
            {"params": vision, "lr": self.lr_vision, "weight_decay": 0.0},
            {"params": rest, "lr": self.lr, "weight_decay": 0.0},
        ]


RECIPES = {"ofa": OfaGrounderRecipe, "mmgdino": MmGroundingDinoRecipe, "seqtr": SeqtrRecipe}
