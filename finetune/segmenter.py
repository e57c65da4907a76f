"""Train the segmenter: `namepin finetune segmenter`. SAM's mask decoder, prompted with boxes, on a data set's masks.

The picture encoder is frozen. The loss is SAM's own: focal and Dice in the ratio 20 to 1, plus the squared error of
the predicted IoU (Kirillov et al., 2023, appendix A). RiVEG does not tune SAM.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from namepin.finetune.data.mentions import Pictures, jitter_box, read_split, require_rows, shuffle_rows
from namepin.finetune.data.rows import MentionRow
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.loop.trainer import Run
from namepin.finetune.recipes.segmenter import SamRecipe
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.loading.pretrained import locate, weights_sha256
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.models.sam import fit, fit_size, unfit
from namepin.tools.models.sam_checkpoint import load_sam
from namepin.tools.types import Box, Mask, Point


@dataclass(frozen=True)
class MaskRow:
    """One mask of a mention, and the box that prompts for it."""

    mention: MentionRow
    mask: Mask
    box: Box
    point: Point | None = None
    """A point that replaces the box as the prompt."""


class SamTask(Task):
    """SAM with one row per mask."""

    name = "segmenter"

    def __init__(self, recipe: SamRecipe) -> None:
        """Load weights and data.

        Raises:
            NamepinError: E210 to E216 weights, E120 to E139 data.
        """
        self.recipe = recipe
        train, dev = read_split(recipe, recipe.train, limit=recipe.limit), read_split(recipe, recipe.dev)
        self.train, self.dev = ([one for row in split.rows for one in mask_rows_of(row)] for split in (train, dev))
        require_rows(self.train, train, "mask")
        require_rows(self.dev, dev, "mask")
        self.data, self.trained_posts = {**train.data, **dev.data}, train.trained_posts
        path = locate(recipe.weights)
        self.net: Any = load_sam(path, weights_sha256(path)).net
        self.net.requires_grad_(recipe.whole)
        self.net.mask_decoder.requires_grad_(True)
        vision = self.net.config.vision_config
        self.side = int(vision.image_size)
        # The decoder draws four pixels for each patch's side.
        self.pixel = int(vision.patch_size) // 4
        self.pictures = Pictures(lambda image: fit(image, self.side))

    def rows(self, rng: random.Random) -> Sequence[MaskRow]:
        """The masks, each with a slightly moved box or a point within the mask."""
        return [
            MaskRow(row.mention, row.mask, jitter_box(row.box, self.recipe.jitter, rng), self._point(row.mask, rng))
            for row in shuffle_rows(self.train, rng, lambda row: row.mention.image)
        ]

    def _point(self, mask: Mask, rng: random.Random) -> Point | None:
        if rng.random() >= self.recipe.points:
            return None
        rows, columns = np.nonzero(mask.to_array())
        at = rng.randrange(len(rows))
        return int(columns[at]), int(rows[at])

    def collate(self, rows: list[MaskRow]) -> Batch:
        """Pictures, boxes in the net's square, and the masks as the decoder draws them, (rows, h, w)."""
        pixels, which = self.pictures([row.mention for row in rows])
        sizes = [row.mask.size[::-1] for row in rows]
        frames = [fit_size((width, height), self.side) for width, height in sizes]
        boxes = [
            [edge * new / old for edge, new, old in zip(row.box, frame * 2, size * 2, strict=True)]
            for row, frame, size in zip(rows, frames, sizes, strict=True)
        ]
        points = [
            [(at + 0.5) * new / old for at, new, old in zip(row.point or (0, 0), frame, size, strict=True)]
            for row, frame, size in zip(rows, frames, sizes, strict=True)
        ]
        masks = [target_grid(row.mask, frame, self.side, self.pixel) for row, frame in zip(rows, frames, strict=True)]
        return {
            "pixels": pixels,
            "which": which,
            "boxes": torch.tensor(boxes)[:, None],
            "points": torch.tensor(points)[:, None, None],
            "by_point": torch.tensor([row.point is not None for row in rows]),
            "masks": torch.stack(masks),
        }

    def _ask(self, net: Any, batch: Batch, by_point: bool) -> tuple[Tensor, Tensor]:
        """Mask logits (rows, masks, h, w) and predicted IoU (rows, masks) of the prompts of one kind."""
        rows = batch["by_point"] == by_point
        with torch.set_grad_enabled(self.recipe.whole and torch.is_grad_enabled()):
            # transformers' `get_image_embeddings` computes no gradients.
            states = net.vision_encoder(batch["pixels"]).last_hidden_state[batch["which"][rows]]
        prompt = {"input_points": batch["points"][rows]} if by_point else {"input_boxes": batch["boxes"][rows]}
        output = net(image_embeddings=states, multimask_output=by_point, **prompt)
        return output.pred_masks[:, 0], output.iou_scores[:, 0]

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """20 focal + Dice of the best mask, plus the squared error of the predicted IoU."""
        losses = []
        for by_point in (False, True):
            rows = batch["by_point"] == by_point
            if rows.any():
                losses.append(mask_loss(*self._ask(net, batch, by_point), batch["masks"][rows]))
        return torch.cat(losses).mean()

    def score(self) -> dict[str, float]:
        """Mean IoU with the gold masks at the pictures' own sizes, prompted with the gold boxes."""
        device, total = next(self.net.parameters()).device, 0.0
        for row in self.dev:
            batch = {key: value.to(device) for key, value in self.collate([row]).items()}
            logits, _ = self._ask(self.net, batch, by_point=False)
            predicted = unfit(logits[0].detach().cpu(), row.mask.size[::-1], self.side)[0].numpy() > 0
            gold = row.mask.to_array()
            total += float((predicted & gold).sum() / max((predicted | gold).sum(), 1))
        return {"iou": total / len(self.dev)}

    def save(self, folder: Path) -> None:
        """A folder for `segmenter.sam.weights`."""
        with quiet_transformers():
            self.net.save_pretrained(folder)


def mask_rows_of(row: MentionRow) -> list[MaskRow]:
    """A mention's masks, each with its own tight box.

    Raises:
        NamepinError: E120 to E125 when the picture cannot be read, E133 when a mask's size is not the picture's.
    """
    found = []
    for mask in row.masks:
        width, height = load_image(row.image).image.size
        if tuple(mask.size) != (height, width):
            what = f"a mask of {row.query.text!r} is {mask.size[1]}x{mask.size[0]}, the picture {width}x{height}"
            raise NamepinError("E133", what, where=row.image, mend="annotate this picture again")
        box = mask.tight_box()
        if box is not None:
            found.append(MaskRow(row, mask, box))
    return found


def target_grid(mask: Mask, frame: tuple[int, int], side: int, pixel: int = 4) -> Tensor:
    """A mask in the decoder's size: scaled to `frame` (width, height) in the square, `pixel` of its pixels to one."""
    picture = Image.fromarray(mask.to_array().astype(np.uint8) * 255).resize(frame, Image.Resampling.BOX)
    square = functional.pad(
        torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255), (0, side - frame[0], 0, side - frame[1])
    )
    return (functional.avg_pool2d(square[None], pixel)[0] > 0.5).float()


def mask_loss(logits: Tensor, scores: Tensor, masks: Tensor) -> Tensor:
    """20 focal (gamma 2, alpha 1/4) and Dice of each row's best mask, plus the error of every mask's predicted IoU.

    Args:
        logits: (n, masks, h, w), positive inside.
        scores: (n, masks), the predicted IoU.
        masks: (n, h, w), the gold masks, 0 or 1.

    Returns:
        (n,).
    """
    right = masks[:, None].expand_as(logits)
    inside = logits.sigmoid()
    hit = inside * right + (1 - inside) * (1 - right)
    weight = 0.25 * right + 0.75 * (1 - right)
    each = functional.binary_cross_entropy_with_logits(logits, right, reduction="none")
    focal = (weight * (1 - hit) ** 2 * each).mean((2, 3))
    both, sizes = (inside * right).sum((2, 3)), inside.sum((2, 3)) + right.sum((2, 3))
    drawn_badly = 20 * focal + 1 - (2 * both + 1) / (sizes + 1)
    predicted = logits.detach() > 0
    overlap = (predicted & (right > 0)).sum((2, 3)) / (predicted | (right > 0)).sum((2, 3)).clamp(min=1)
    return drawn_badly.amin(1) + ((scores - overlap) ** 2).mean(1)


def train(recipe: SamRecipe, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's weights are then in `out/weights`."""
    return Run(recipe, SamTask(recipe)).run(resume)
