"""The interface between a recipe and the loop: a net, rows, a loss and a dev score."""

import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from namepin.evals.overlap import TrainedPosts
from namepin.finetune.loop.fsdp import layers_of

Batch = Mapping[str, Any]


class Task(ABC):
    """A recipe as the loop sees it.

    Attributes:
        name: the trained tool.
        net: the net that the tool loads.
        data: sha256 of the texts, boxes and masks that were read; pictures are not hashed.
        trained_posts: the record of the posts behind the training rows, for the manifest.
        folder: the subfolder of the run folder for the weights.
        pretraining_epochs: epochs on other rows before the recipe's own. They have their own warm-up and moving
            average, and no dev score.
        kept_epoch: number of an epoch, pretraining included, whose weights are also kept, in `out/kept-epoch`; 0 for
            none.
        history: scores of the epochs so far; the loop sets it before it calls `save`.
    """

    name: str
    net: nn.Module
    data: dict[str, str]
    trained_posts: TrainedPosts
    folder: str = "weights"
    pretraining_epochs: int = 0
    kept_epoch: int = 0
    history: Sequence[Mapping[str, float]] = ()

    @abstractmethod
    def rows(self, rng: random.Random) -> Sequence[Any]:
        """The training rows of an epoch in training order; `rng` draws the order and the augmentation."""

    def pretraining_rows(self, rng: random.Random) -> Sequence[Any]:
        """The rows of a pretraining epoch; like `rows`."""
        return ()

    @abstractmethod
    def collate(self, rows: list[Any]) -> Batch:
        """The batch of some rows, on the CPU."""

    @abstractmethod
    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """The mean loss of a batch."""

    @abstractmethod
    def score(self) -> dict[str, float]:
        """Dev scores of the net, in evaluation mode. The first score chooses the best epoch; higher is better."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights in the form that the tool loads."""


class Objective(nn.Module):
    """A net with its loss as the forward pass, so that accelerate can wrap it for several processes."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.net, self._loss = task.net, task.loss
        self._no_split_modules = layers_of(task.net)  # the layers that FSDP may shard

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss."""
        return self._loss(self.net, batch)

    def train(self, mode: bool = True) -> "Objective":
        """Set the mode, but let batch norms keep their statistics: the batches are small."""
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self
