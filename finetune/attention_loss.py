"""A loss that draws the cross-attention of BLIP's text tokens into the gold boxes.

The loss is ours and off by default. GEM trains on matching alone and traces the resulting attention (section 3.4.2).
A BLIP without pre-training hardly learns to match that way (docs/sandbox.md); with this loss it does.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from namepin.finetune.data.rows import MentionRow
from namepin.tools.images.load import load_image


class AttentionLoss:
    """The cross-attention of every text layer of one BLIP, recorded as it is computed."""

    def __init__(self, net: Any) -> None:
        """Watch the net's text layers."""
        vision = net.config.vision_config
        self._side = int(vision.image_size) // int(vision.patch_size)
        self._inputs: list[Tensor] = []
        self._sizes: dict[str, tuple[int, int]] = {}
        for layer in net.text_encoder.encoder.layer:
            layer.crossattention.self.dropout.register_forward_pre_hook(self._see)

    def _see(self, _: Any, inputs: tuple[Tensor, ...]) -> None:
        if torch.is_grad_enabled():
            self._inputs.append(inputs[0])

    def regions(self, rows: Sequence[MentionRow]) -> Tensor:
        """(rows, patches): each patch's share within the mention's boxes, 0 to 1; all 0 without a box.

        Raises:
            NamepinError: E120 to E125 when a picture cannot be read.
        """
        return torch.stack([self._region(row) for row in rows])

    def _region(self, row: MentionRow) -> Tensor:
        covered, begins = torch.zeros(self._side, self._side), torch.arange(self._side) / self._side
        if row.boxes and row.image not in self._sizes:
            self._sizes[row.image] = load_image(row.image).image.size
        for x1, y1, x2, y2 in row.boxes:
            width, height = self._sizes[row.image]
            across, down = (
                (torch.clamp(begins + 1 / self._side, max=high) - torch.clamp(begins, min=low)).clamp(min=0)
                for low, high in ((x1 / width, x2 / width), (y1 / height, y2 / height))
            )
            covered = torch.maximum(covered, down[:, None] * across[None] * self._side**2)
        return covered.flatten()

    def loss(self, batch: Mapping[str, Tensor]) -> Tensor:
        """The mean over layers and groundable rows of -log(share of the attention that is within the boxes).

        Attention is averaged over heads and over all tokens except the first, as in the tracer (equation 11).

        Args:
            batch: `regions`, (rows, patches), and the text's `mask`, (rows, tokens), of the forward pass just taken.
        """
        inputs_of_layers, self._inputs = self._inputs, []
        here = batch["regions"].any(-1)
        if not here.any():
            return batch["regions"].new_zeros(())
        regions, words = batch["regions"][here], batch["mask"][here].float()
        words[:, 0] = 0
        words = words / words.sum(-1, keepdim=True)
        losses = []
        for attention in inputs_of_layers:
            of_words = torch.einsum("btk,bt->bk", attention[here].mean(1), words)
            within = (of_words[:, 1:] * regions).sum(-1)
            losses.append(-torch.log(within + 1e-4).mean())
        return torch.stack(losses).mean()
