"""Settings of the recipe of the features that find similar posts."""

from dataclasses import dataclass
from typing import Literal

from namepin.finetune.loop.settings import Positive, Rate, Training


@dataclass(frozen=True, kw_only=True)
class UmtRecipe(Training):
    """RiVEG's settings for MNER with BERT (section V-A): 20 epochs at 5e-5 in batches of 16, 256 pieces at most.

    Attributes:
        root: folder of the data set; `images/` is optional, and so is a post's picture.
        dataset: its layout, as named by `namepin eval --dataset`.
        train: the split to train on.
        dev: the split that chooses the epoch.
        text: initial BERT: a folder or a name on the hub.
        vision: initial ResNet; like `text`.
        image_size: side of the square that pictures are resized to, in pixels.
        pieces: largest number of word pieces per post, with [CLS] and [SEP]; longer posts are truncated.
    """

    backend: Literal["umt"] = "umt"
    out: str = "out/fusion"
    root: str
    dataset: str = "gmner"
    train: str = "train"
    dev: str = "dev"
    lr: Rate = 5e-5
    epochs: Positive = 20
    batch_size: Positive = 16
    text: str = "google-bert/bert-base-uncased"
    vision: str = "microsoft/resnet-152"
    image_size: Positive = 224
    pieces: Positive = 256


RECIPES = {"umt": UmtRecipe}
