"""Shared by both OFA recipes: the net with its vocabulary, OFA's picture tensors, and a folder that the tools load."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namepin.finetune.data.mentions import Pictures
from namepin.finetune.data.regularisers import regularise_ofa
from namepin.finetune.data.rows import MentionRow
from namepin.finetune.loop.task import Batch
from namepin.tools.images.tensors import squash
from namepin.tools.loading.pretrained import locate, weights_sha256
from namepin.tools.models.config import OfaConfig
from namepin.tools.models.ofa import OfaModel
from namepin.tools.models.ofa_checkpoint import load_ofa, save_ofa
from namepin.tools.models.ofa_vocabulary import PAD, pad_rows
from namepin.tools.nets.ofa import Memory, Patches

_HALF = (0.5, 0.5, 0.5)
_CPU = torch.device("cpu")


class OfaParts:
    """An OFA to train.

    The batch norms of its ResNet keep their statistics. The net is the one that the tools run; in training mode it has
    the dropout and drop path of OFA's own tuning.
    """

    def __init__(
        self, weights: str, tokenizer: str, image_size: int, *, dropout: float = 0.0, drop_path: float = 0.0
    ) -> None:
        """Load the weights.

        Raises:
            NamepinError: E210 to E218, see `namepin.tools.models.ofa_checkpoint`.
        """
        path = locate(weights)
        checkpoint = load_ofa(path, weights_sha256(path), tokenizer=tokenizer)
        OfaModel(OfaConfig(weights=weights), checkpoint).check_size(image_size)
        self.net, self.vocabulary = checkpoint.net.requires_grad_(), checkpoint.vocabulary
        regularise_ofa(self.net, dropout, drop_path)
        self.pictures = Pictures(lambda image: squash(image, image_size, _HALF, _HALF))

    def questions(self, rows: Sequence[MentionRow], prompts: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Pictures and questions of rows, for `read`."""
        pixels, which = self.pictures(rows)
        return {"pixels": pixels, "which": which, "ids": pad_rows(prompts, _CPU)}

    def save(self, folder: Path) -> None:
        """A folder in the form of OFA-Sys's transformers branch, `ofa.weights` for the tools."""
        save_ofa(self.net, self.vocabulary, folder)


def read(net: Any, batch: Batch) -> Memory:
    """The encoder's states for the result of `questions`; every picture goes through the ResNet once."""
    view = net.look(batch["pixels"])
    patches = Patches(view.states[batch["which"]], view.rows, view.columns)
    memory: Memory = net.encode(patches, batch["ids"], batch["ids"] != PAD)
    return memory
