"""Train the segmenter: `namepin finetune segmenter`. SAM's mask decoder, asked with boxes, on a data set's masks.

Pictures are read as SAM reads them, by an encoder that stays as it is. The loss is SAM's own: focal and Dice in the
ratio 20 to 1, and the squared error of the predicted IoU (Kirillov et al., 2023, appendix A). RiVEG uses SAM untrained.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from finetune.training import Batch, Run, Share
from finetune.visual_data import Pictures, Seen, VisualTraining, jittered, read_split
from tools.errors import NamepinError
from tools.images import load_image
from tools.pretrained import locate, quiet_transformers, weights_sha256
from tools.sam import fit, fitted, unfit
from tools.sam_checkpoint import load_sam
from tools.types import Box, Mask


@dataclass(frozen=True, kw_only=True)
class SamRecipe(VisualTraining):
    """Ours, as the paper trains no segmenter.

    Attributes:
        weights: the SAM to begin with: a folder, an original `.pth` file, or a name on the hub.
        jitter: every edge of a prompt is moved by up to this share of the box's side, as in SAM's training.
        whole: train the encoders, too; for a SAM that starts from nothing.
    """

    backend: Literal["sam"] = "sam"
    out: str = "out/segmenter"
    dataset: str = "smner"
    lr: float = 1e-4
    epochs: int = 5
    batch_size: int = 8
    weights: str = "facebook/sam-vit-huge"
    jitter: Share = 0.1
    whole: bool = False


@dataclass(frozen=True)
class Region:
    """One mask of a mention, and the box that asks for it."""

    seen: Seen
    mask: Mask
    box: Box


class SamTask:
    """SAM with one row a mask (`finetune.training.Task`)."""

    name = "segmenter"

    def __init__(self, recipe: SamRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E210 to E216 weights, E120 to E139 data.
        """
        self.recipe = recipe
        train, dev = read_split(recipe, recipe.train), read_split(recipe, recipe.dev)
        self.train, self.dev = ([one for row in split.rows for one in regions_of(row)] for split in (train, dev))
        if not self.train or not self.dev:
            raise NamepinError("E139", "no mention of train, or of dev, has a mask", where=recipe.root)
        self.data = {**train.data, **dev.data}
        path = locate(recipe.weights)
        self.net: Any = load_sam(path, weights_sha256(path)).net
        self.net.requires_grad_(recipe.whole)
        self.net.mask_decoder.requires_grad_(True)
        self.side = int(self.net.config.vision_config.image_size)
        self.pictures = Pictures(lambda image: fit(image, self.side))

    def rows(self, rng: random.Random) -> Sequence[Region]:
        """The masks, their boxes moved a little."""
        return [Region(row.seen, row.mask, jittered(row.box, self.recipe.jitter, rng)) for row in self.train]

    def collate(self, rows: list[Region]) -> Batch:
        """Pictures, boxes in the net's square, and the masks as the decoder draws them, (rows, side / 4, side / 4)."""
        pixels, which = self.pictures([row.seen for row in rows])
        sizes = [row.mask.size[::-1] for row in rows]
        frames = [fitted((width, height), self.side) for width, height in sizes]
        boxes = [
            [edge * new / old for edge, new, old in zip(row.box, frame * 2, size * 2, strict=True)]
            for row, frame, size in zip(rows, frames, sizes, strict=True)
        ]
        masks = torch.stack([drawn(row.mask, frame, self.side) for row, frame in zip(rows, frames, strict=True)])
        return {"pixels": pixels, "which": which, "boxes": torch.tensor(boxes)[:, None], "masks": masks}

    def _ask(self, net: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mask logits (rows, side / 4, side / 4) and predicted IoU (rows,)."""
        with torch.set_grad_enabled(self.recipe.whole and torch.is_grad_enabled()):
            # transformers' own `get_image_embeddings` never differentiates.
            seen = net.vision_encoder(batch["pixels"]).last_hidden_state[batch["which"]]
        output = net(image_embeddings=seen, input_boxes=batch["boxes"], multimask_output=False)
        return output.pred_masks[:, 0, 0], output.iou_scores[:, 0, 0]

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """20 focal + Dice + squared error of the predicted IoU."""
        logits, scores = self._ask(net, batch)
        return mask_loss(logits, batch["masks"], scores)

    def score(self) -> dict[str, float]:
        """Mean IoU with the gold masks at the pictures' own sizes, asked with the gold boxes."""
        device, total = next(self.net.parameters()).device, 0.0
        for row in self.dev:
            batch = {key: value.to(device) for key, value in self.collate([row]).items()}
            logits, _ = self._ask(self.net, batch)
            said = unfit(logits.detach().cpu(), row.mask.size[::-1], self.side)[0].numpy() > 0
            gold = row.mask.to_array()
            total += float((said & gold).sum() / max((said | gold).sum(), 1))
        return {"iou": total / len(self.dev)}

    def save(self, folder: Path) -> None:
        """A folder for `segmenter.sam.weights`."""
        with quiet_transformers():
            self.net.save_pretrained(folder)


def regions_of(row: Seen) -> list[Region]:
    """A mention's masks, each with its own tight box.

    Raises:
        NamepinError: E120 to E125 when the picture cannot be read, E133 when a mask has another size than it.
    """
    found = []
    for mask in row.masks:
        width, height = load_image(row.image).image.size
        if tuple(mask.size) != (height, width):
            what = f"a mask of {row.query.text!r} is {mask.size[1]}x{mask.size[0]}, the picture {width}x{height}"
            raise NamepinError("E133", what, where=row.image, mend="annotate the picture that is there")
        box = mask.tight_box()
        if box is not None:
            found.append(Region(row, mask, box))
    return found


def drawn(mask: Mask, frame: tuple[int, int], side: int) -> Tensor:
    """A mask as the decoder sees it: scaled to `frame` (width, height) within the square, a quarter of its size."""
    picture = Image.fromarray(mask.to_array().astype(np.uint8) * 255).resize(frame, Image.Resampling.BOX)
    square = functional.pad(
        torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255), (0, side - frame[0], 0, side - frame[1])
    )
    return (functional.avg_pool2d(square[None], 4)[0] > 0.5).float()


def mask_loss(logits: Tensor, masks: Tensor, scores: Tensor) -> Tensor:
    """The mean loss of masks: 20 focal (gamma 2, alpha 1/4), Dice, and how far off the predicted IoU is.

    Args:
        logits: (n, h, w), positive inside.
        masks: (n, h, w), 0 or 1.
        scores: (n,), the predicted IoU.
    """
    inside = logits.sigmoid()
    right = inside * masks + (1 - inside) * (1 - masks)
    weight = 0.25 * masks + 0.75 * (1 - masks)
    each = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none")
    focal = (weight * (1 - right) ** 2 * each).mean((1, 2))
    both, sizes = (inside * masks).sum((1, 2)), inside.sum((1, 2)) + masks.sum((1, 2))
    dice = 1 - (2 * both + 1) / (sizes + 1)
    said = logits.detach() > 0
    overlap = (said & (masks > 0)).sum((1, 2)) / (said | (masks > 0)).sum((1, 2)).clamp(min=1)
    return (20 * focal + dice + (scores - overlap) ** 2).mean()


RECIPES = {"sam": SamRecipe}


def train(recipe: SamRecipe, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's weights are then in `out/weights`."""
    return Run(recipe, SamTask(recipe)).run(resume)
