"""Settings of the segmenter's recipe."""

from dataclasses import dataclass
from typing import Literal

from namepin.finetune.loop.settings import Jitter, Positive, Rate, Share
from namepin.finetune.recipes.visual import VisualTraining


@dataclass(frozen=True, kw_only=True)
class SamRecipe(VisualTraining):
    """Our settings; the paper trains no segmenter.

    Attributes:
        weights: initial SAM: a folder, an original `.pth` file, or a name on the hub.
        jitter: every edge of a prompt is moved by up to this share of the box's side, as in SAM's training.
        whole: train the encoders too, for a SAM without pre-training.
        points: share of the prompts that are a point within the mask instead of its box; GEM uses points. A point is
            ambiguous, so only the best of SAM's three masks is trained, and the predicted IoU of all three.
    """

    backend: Literal["sam"] = "sam"
    out: str = "out/segmenter"
    dataset: str = "smner"
    lr: Rate = 1e-4
    epochs: Positive = 5
    batch_size: Positive = 8
    weights: str = "facebook/sam-vit-huge"
    jitter: Jitter = 0.1
    whole: bool = False
    points: Share = 0.0


RECIPES = {"sam": SamRecipe}
