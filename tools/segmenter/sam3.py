"""SAM 3 as a segmenter: the category as words finds instances, and the prompt's box or point chooses one of them.

Its weights are under Meta's SAM License, which is not an open-source licence, and are available only on request.
transformers' own processor needs torchvision, so this module has its own pre- and post-processing. SAM 3 can also read
a box as an example of what to find; Namepin does not use that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from namepin.tools.base import digest, fingerprint
from namepin.tools.geometry import box_iou, clip_box, clip_point
from namepin.tools.images.tensors import normalise
from namepin.tools.interfaces import SegmentPrompt, SegmentRequest, Segments
from namepin.tools.loading.pretrained import (
    another_model,
    device_named,
    identity,
    load_folder,
    load_tokenizer,
    read_json,
    shared_model,
)
from namepin.tools.media import Media, picture
from namepin.tools.models.config import Sam3Config
from namepin.tools.models.match_texts import without_special
from namepin.tools.segmenter.config import Sam3SegmenterConfig
from namepin.tools.segmenter.prompts import category_words, nothing_found, segment_of
from namepin.tools.types import Box, Point

_MEND = "take a SAM 3 checkpoint in transformers' form, such as facebook/sam3 (SAM License, on request)"
_HALF = (0.5, 0.5, 0.5)
"""Mean and standard deviation of the channels in SAM 3's training."""


@dataclass(frozen=True)
class Instances:
    """SAM 3's instances for a prompt: mask probabilities (n, h, w), boxes (n, 4) in 0..1, and scores (n,)."""

    masks: Tensor
    boxes: Tensor
    scores: Tensor


class Sam3:
    """A loaded SAM 3, safe for several threads."""

    def __init__(self, config: Sam3Config, net: Any, tokenizer: Any, checkpoint: str) -> None:
        self.device = device_named(config.device)
        self._net = net.eval().requires_grad_(False).to(self.device)
        self._words, self._checkpoint = tokenizer, checkpoint

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its outputs, for fingerprints."""
        return {"checkpoint": self._checkpoint}

    @property
    def _places(self) -> int:
        return int(self._net.config.text_config.max_position_embeddings)

    def too_long(self, words: str) -> bool:
        """Whether the text encoder reads only the beginning of the words."""
        return len(self._ids(words)) > self._places

    def _ids(self, words: str) -> list[int]:
        ids: list[int] = self._words(without_special(words, self._words))["input_ids"]
        return ids

    @torch.no_grad()
    def features(self, image: Image.Image) -> Any:
        """The picture, squashed to a square and encoded."""
        side = self._net.config.vision_config.backbone_config.image_size
        square = image.resize((side, side), Image.Resampling.BILINEAR)
        return self._net.get_vision_features(normalise(square, _HALF, _HALF)[None].to(self.device))

    @torch.no_grad()
    def instances(self, features: Any, words: str) -> Instances:
        """All instances of the words in the picture; `features` is the result of the method of that name."""
        read = self._ids(words)
        if len(read) > self._places:  # CLIP's text embedding is the state of the last token, the end token
            read = [*read[: self._places - 1], read[-1]]
        ids = torch.tensor([read], device=self.device)
        found = self._net(vision_embeds=features, input_ids=ids, attention_mask=torch.ones_like(ids))
        scores = found.pred_logits.sigmoid() * found.presence_logits.sigmoid()
        return Instances(found.pred_masks[0].sigmoid().cpu(), found.pred_boxes[0].cpu(), scores[0].cpu())


class Sam3Segmenter:
    """Encodes the picture once per request; a prompt's words find instances, its point or box chooses among them.

    `Segment.score` is SAM 3's score of the instance: the probability that it matches the words, times the probability
    that the words are present.
    """

    name: ClassVar[str] = "segmenter_sam3"
    version: ClassVar[int] = 1

    def __init__(self, config: Sam3SegmenterConfig, sam: Sam3 | None = None) -> None:
        """Use `sam` if given, else load or share the model of `config.sam`.

        Raises:
            NamepinError: E210 to E218, as `shared_sam3`.
        """
        self.config = config
        self.sam = sam or shared_sam3(config.sam)

    @property
    def fingerprint(self) -> str:
        """Covers weights and threshold."""
        identity = self.sam.identity
        settings = {**identity, "threshold": self.config.threshold}
        return fingerprint(self.name, self.version, settings, weights=identity["checkpoint"])

    def run(self, requests: Sequence[SegmentRequest], media: Media) -> list[Segments]:
        """One segment per prompt; where no instance fits, none, and a notice W123.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
        """
        return [self._segments(request, media) for request in requests]

    def _segments(self, request: SegmentRequest, media: Media) -> Segments:
        size = request.image.width, request.image.height
        segments, notices = [], []
        features = self.sam.features(picture(request.image, media)) if request.prompts else None
        for prompt in request.prompts:
            region, score = self._region(features, prompt, size)
            segments.append(segment_of(region, score))
            if segments[-1].mask is None:
                notices.append(nothing_found(prompt, self.name))
        return Segments(segments=tuple(segments), notices=tuple(notices))

    def _region(
        self, features: Any, prompt: SegmentPrompt, size: tuple[int, int]
    ) -> tuple["np.ndarray[Any, np.dtype[np.bool_]]", float | None]:
        box = clip_box(prompt.box, size) if prompt.box else None
        point = clip_point(prompt.peak, size) if prompt.peak else None
        found = self.sam.instances(features, category_words(prompt.query))
        chosen = choose(found, point, box, size, self.config.threshold)
        if chosen is None:
            return np.zeros((size[1], size[0]), dtype=bool), None
        return full_size(found.masks[chosen], size).numpy() > 0.5, float(found.scores[chosen])


def choose(
    found: Instances, point: Point | None, box: Box | None, size: tuple[int, int], threshold: float
) -> int | None:
    """The instance that a prompt points at: the nearest to its box, else the best that holds its point, else the best.

    Args:
        found: the instances.
        point: in pixels of the picture.
        box: likewise; it takes precedence over the point.
        size: (width, height) of the picture.
        threshold: instances with a lower score do not count.

    Returns:
        Its number; None where no instance counts, holds the point, or meets the box.
    """
    ranked = [int(i) for i in found.scores.argsort(descending=True, stable=True) if found.scores[i] > threshold]
    if box is not None:
        scale = torch.tensor([size[0], size[1]] * 2)
        edges = {i: (found.boxes[i] * scale).tolist() for i in ranked}
        overlaps = {i: box_iou((x1, y1, x2, y2), box) for i, (x1, y1, x2, y2) in edges.items()}
        best = max(ranked, key=lambda i: overlaps[i], default=None)
        return best if best is not None and overlaps[best] > 0 else None
    if point is not None:
        return next((i for i in ranked if full_size(found.masks[i], size)[point[1], point[0]] > 0.5), None)
    return ranked[0] if ranked else None


def full_size(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """A mask's probabilities, (h, w), at the picture's size (width, height): (height, width)."""
    return functional.interpolate(mask[None, None], (size[1], size[0]), mode="bilinear", align_corners=False)[0, 0]


def shared_sam3(config: Sam3Config) -> Sam3:
    """The SAM 3 of `config`, loaded once for all tools that hold it.

    Raises:
        NamepinError: E210 to E218, see `namepin.tools.loading.pretrained`.
    """
    return shared_model(config, _load)


def _load(config: Sam3Config, path: Path, sha256: str) -> Sam3:
    from transformers import Sam3Model

    if not path.is_dir():
        raise another_model("SAM 3's original files are not read", str(path), _MEND)
    # The published folder holds the video model: the picture model and a tracker.
    kind = read_json(path / "config.json").get("model_type")
    net: Any = load_folder(Sam3Model, path, kind="sam3_video" if kind == "sam3_video" else "sam3", mend=_MEND)
    tokenizer = load_tokenizer(str(path), net.config.text_config.vocab_size)
    return Sam3(config, net, tokenizer, digest([identity(sha256, net), tokenizer.get_vocab()]))
