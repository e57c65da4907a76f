"""Train MM-Grounding-DINO as grounder: `namepin finetune grounder --set backend=mmgdino`; LoRA on the detector.

The net proposes boxes for a phrase. Of several gold boxes only the largest counts, as for OFA (RiVEG section IV-C2).
The loss is transformers' own: it matches proposals with boxes and penalises wrong scores and places.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import reduce
from torch import Tensor, nn
from transformers.models.mm_grounding_dino.modeling_mm_grounding_dino import build_label_maps, build_text_mask

from namepin.finetune.data.mentions import jitter_box, read_boxed_rows, shuffle_rows
from namepin.finetune.data.rows import MentionRow
from namepin.finetune.loop.lora import Layers, save_lora, with_lora
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.recipes.grounder import MmGroundingDinoRecipe
from namepin.tools.geometry import Rectangle, box_iou
from namepin.tools.grounder.config import MmGroundingDinoConfig
from namepin.tools.grounder.mmgdino import MmGroundingDinoGrounder, load_mmgdino, padded_ids, phrase_of
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import GroundRequest, ReferringQuery
from namepin.tools.loading.pretrained import locate, weights_sha256
from namepin.tools.media import Media

DETECTOR = Layers(
    r"model\.(encoder|decoder)\..*\.(query|key|value|fc1|fc2|\w+_proj|sampling_offsets|attention_weights)$",
    whole=r".*(bbox|class)_embed\..*",
)
"""LoRA on encoder and decoder. The picture and text backbones are frozen; the small heads are trained whole."""


class MmGroundingDinoTask(Task):
    """MM-Grounding-DINO with LoRA and the mentions that have a box."""

    name = "grounder"

    def __init__(self, recipe: MmGroundingDinoRecipe) -> None:
        """Load data and weights, and put LoRA on.

        Raises:
            NamepinError: E210 to E218 weights, E120 to E139 data, E301 without peft.
        """
        self.recipe = recipe
        self.train, self.dev, self.data, self.trained_posts = read_boxed_rows(
            recipe, expansions=recipe.expansions, dev_expansions=recipe.dev_expansions
        )
        asked = {name: getattr(recipe, name) for name in ("weights", "phrase", "short_side", "long_side")}
        config, path = MmGroundingDinoConfig(**asked, threshold=0.0, top=1), locate(recipe.weights)
        self.tool = MmGroundingDinoGrounder(config, load_mmgdino(config, path, weights_sha256(path)))
        self.net: nn.Module = with_lora(self.tool.model.net, recipe, DETECTOR)

    def rows(self, rng: random.Random) -> Sequence[MentionRow]:
        """The mentions, their target boxes moved a little if the recipe has `jitter`."""
        rows, most = shuffle_rows(self.train, rng, lambda row: row.image), self.recipe.jitter
        return [replace(row, boxes=(jitter_box(row.largest, most, rng),)) for row in rows] if most else rows

    def collate(self, rows: list[MentionRow]) -> Batch:
        """Pictures, each in the corner of a common rectangle, phrases, and the target boxes, (rows, 4).

        A box is its centre, width and height, as shares of the picture without padding.
        """
        images = {row.image: load_image(row.image).image for row in rows}
        pictures = {path: self.tool.pixels(image) for path, image in images.items()}
        height, width = (max(picture.shape[side] for picture in pictures.values()) for side in (1, 2))
        pixels = torch.zeros(len(rows), 3, height, width)
        there = torch.zeros(len(rows), height, width, dtype=torch.long)
        for at, row in enumerate(rows):
            _, high, wide = pictures[row.image].shape
            pixels[at, :, :high, :wide], there[at, :high, :wide] = pictures[row.image], 1
        ids, words = padded_ids([self.tool.ids(phrase_of(referring(row), self.recipe.phrase))[0] for row in rows])
        boxes = torch.tensor([centre_box(row.largest, images[row.image].size) for row in rows])
        return {"pixels": pixels, "there": there, "ids": ids, "words": words, "boxes": boxes}

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Focal, L1 and GIoU loss of the proposals, matched with the boxes as in transformers; the mean over rows."""
        detector: Any = net
        ids, words = batch["ids"], batch["words"]
        found = detector(
            pixel_values=batch["pixels"], pixel_mask=batch["there"], input_ids=ids, attention_mask=words,
            return_dict=True,
        )  # fmt: skip
        # transformers looks up a row's phrase in the phrases of all rows, and finds a wrong one from the third row on:
        # its offset counts one earlier row, not all. So every row gets the phrases of all rows.
        phrases = torch.cat(build_label_maps(found.logits, ids))
        wanted = [
            {"class_labels": torch.tensor([at], device=ids.device), "boxes": box[None]}
            for at, box in enumerate(batch["boxes"])
        ]
        loss: Tensor = detector.loss_function(
            found.logits,
            wanted,
            detector.device,
            found.pred_boxes,
            detector.config,
            (phrases,) * len(ids),
            build_text_mask(found.logits, words),
            encoder_logits=found.encoder_logits,
            encoder_pred_boxes=found.encoder_pred_boxes,
        )[0]
        # The loss is divided by the boxes of all processes; the training loop expects the mean of this process.
        boxes: Tensor = reduce(torch.tensor(float(len(ids)), device=ids.device), "mean")
        return loss * boxes / len(ids)

    def score(self) -> dict[str, float]:
        """Prec@0.5 on dev: the share of mentions whose best box has an IoU of 0.5 or more with a gold box; mean IoU."""
        found, overlap = 0, 0.0
        for row in self.dev:
            loaded = load_image(row.image)
            request = GroundRequest(image=loaded.ref, text=row.text, queries=(referring(row),))
            boxes = self.tool.run([request], Media(images={loaded.ref.sha256: loaded.image}))[0].groundings[0].boxes
            most = max((box_iou(box.box, gold) for box in boxes for gold in row.boxes), default=0.0)
            found, overlap = found + (most >= 0.5), overlap + most
        return {"prec@0.5": found / len(self.dev), "iou": overlap / len(self.dev)}

    def save(self, folder: Path) -> None:
        """An adapter for `grounder.adapter`."""
        save_lora(self.net, self.recipe, DETECTOR, folder, "ground")


def referring(row: MentionRow) -> ReferringQuery:
    """The request that the graph would send."""
    query = row.query
    return ReferringQuery(text=query.text, label=query.label, category=query.category, expression=row.expression)


def centre_box(box: Rectangle, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """A box in pixels, cut to its picture, as centre, width and height: shares of the picture's (width, height)."""
    edges = [min(max(edge / side, 0.0), 1.0) for edge, side in zip(box, size * 2, strict=True)]
    left, top, right, bottom = edges
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
