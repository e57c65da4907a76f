"""Settings of the recipes that learn from pictures."""

from dataclasses import dataclass

from namepin.finetune.loop.settings import Training


@dataclass(frozen=True, kw_only=True)
class VisualTraining(Training):
    """Settings of a recipe that learns from pictures.

    Attributes:
        root: folder of the data set, with `images/` and `xml/`.
        dataset: its layout, as named by `namepin eval --dataset`; or `regions`, see
            `namepin.finetune.data.described_regions`.
        train: the split to train on.
        dev: the split that chooses the epoch.
    """

    root: str
    dataset: str = "gmner"
    train: str = "train"
    dev: str = "dev"
