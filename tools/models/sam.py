"""One loaded SAM: a picture is encoded once, and its embedding serves any number of points and boxes.

Pictures are scaled so that their long side fits the net, and padded below and to the right. Points and boxes are in
pixels of the upright picture, and masks have its size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from namepin.tools.caching.lru import LruCache
from namepin.tools.images.tensors import imagenet
from namepin.tools.loading.pretrained import device_named, shared_model
from namepin.tools.media import Media, picture
from namepin.tools.models.config import SamConfig
from namepin.tools.models.sam_checkpoint import SamCheckpoint, load_sam
from namepin.tools.types import Box, ImageRef, Point


@dataclass(frozen=True)
class Candidates:
    """SAM's masks for one prompt.

    Attributes:
        logits: mask logits at the net's own resolution, (masks, side / 4, side / 4); positive is inside.
        scores: predicted IoU of each, (masks,).
    """

    logits: Tensor
    scores: Tensor


def fit_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) with a long side of `side`; halves round up, and each side is at least 1."""
    scale = side / max(size)
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def fit(image: Image.Image, side: int) -> Tensor:
    """The picture scaled to a long side of `side` (bilinear with antialiasing), normalised, padded with zeros.

    Returns:
        (3, side, side), float32.
    """
    width, height = fit_size(image.size, side)
    pixels = imagenet(image.resize((width, height), Image.Resampling.BILINEAR))
    return functional.pad(pixels, (0, side - width, 0, side - height))


def unfit(logits: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Mask logits of the padded square, at the picture's size: (masks, h, w) -> (masks, height, width).

    Two bilinear steps as in SAM's own predictor: to the net's square, and, without its padding, to the picture's size.
    """
    width, height = fit_size(size, side)
    square = functional.interpolate(logits[None], (side, side), mode="bilinear", align_corners=False)
    whole = functional.interpolate(
        square[..., :height, :width], (size[1], size[0]), mode="bilinear", align_corners=False
    )
    return whole[0]


class Sam:
    """A loaded SAM, safe for several threads."""

    def __init__(self, config: SamConfig, checkpoint: SamCheckpoint) -> None:
        self.config, self._checkpoint = config, checkpoint
        self.device = device_named(config.device)
        self._net = checkpoint.net.eval().requires_grad_(False).to(self.device)
        self._pictures: LruCache[str, Any] = LruCache(config.cached_pictures)

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its outputs, for fingerprints."""
        return {"checkpoint": self._checkpoint.identity}

    @property
    def side(self) -> int:
        """Side of the net's square input, in pixels."""
        return int(self._net.config.vision_config.image_size)

    @torch.no_grad()
    def embedding(self, image: ImageRef, media: Media) -> Any:
        """The picture's embedding, (1, channels, side / 16, side / 16), cached for other tools.

        Raises:
            NamepinError: E120 when the picture is not in `media`.
        """
        cached = self._pictures.get(image.sha256)
        if cached is None:
            pixels = self._fit(picture(image, media)).to(self.device)
            cached = self._net.get_image_embeddings(pixels[None])
            self._pictures.put(image.sha256, cached)
        return cached

    @torch.no_grad()
    def candidates(
        self, embedding: Any, size: tuple[int, int], points: Sequence[Point] | None, boxes: Sequence[Box] | None
    ) -> list[Candidates]:
        """Masks for prompts of one kind, in batches over one embedding.

        A point alone is ambiguous (a shirt, or its wearer) and gets SAM's three masks. A box gets the single mask that
        SAM was trained to give for a clear prompt.

        Args:
            embedding: the result of `embedding`.
            size: (width, height) of the picture.
            points: one per prompt, in pixels of the picture; None for boxes alone.
            boxes: one per prompt; None for points alone.
        """
        width, height = self._frame(size)
        scale = torch.tensor([width / size[0], height / size[1]])
        given_points = None if points is None else torch.tensor(points, dtype=torch.float32)[None, :, None] * scale
        given_boxes = None if boxes is None else torch.tensor(boxes, dtype=torch.float32)[None] * scale.repeat(2)
        count = len(points or boxes or ())
        found = []
        for start in range(0, count, self.config.prompt_batch):
            batch = slice(start, start + self.config.prompt_batch)
            output = self._net(
                image_embeddings=embedding,
                input_points=None if given_points is None else given_points[:, batch].to(self.device),
                input_boxes=None if given_boxes is None else given_boxes[:, batch].to(self.device),
                multimask_output=boxes is None,
            )
            pairs = zip(output.pred_masks[0], output.iou_scores[0], strict=True)
            found += [Candidates(logits.cpu(), scores.cpu()) for logits, scores in pairs]
        return found

    def full_size(self, logits: Tensor, size: tuple[int, int]) -> Tensor:
        """Mask logits, (masks, h, w), at the size (width, height) of the picture: (masks, height, width)."""
        return unfit(logits, size, self.side)

    def _fit(self, image: Image.Image) -> Tensor:
        """The picture as input of the net, (3, side, side)."""
        return fit(image, self.side)

    def _frame(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the picture within the net's square."""
        return fit_size(size, self.side)


def shared_sam(config: SamConfig) -> Sam:
    """The SAM of `config`, loaded once for all tools that hold it.

    Raises:
        NamepinError: E210 to E216, see `namepin.tools.loading.pretrained`.
    """
    return shared_model(config, _load)


def _load(config: SamConfig, path: Path, sha256: str) -> Sam:
    return Sam(config, load_sam(path, sha256))
