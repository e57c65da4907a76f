"""The box of an expression: SeqTR, the grounder of half of RiVEG's variants (Table VIII).

The picture is scaled to a longer side of 640 pixels, and padded with black to multiples of 32. A coordinate is a bin of
the padded picture, read at its lower edge. Weights for boxes predict a box. Weights for masks predict an outline, whose
tight box is the mention's box. Weights for both tasks predict the box, then the outline.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.caching.lru import LruCache
from namepin.tools.entailment.checks import check_expressions
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.geometry import clip_box
from namepin.tools.grounder.config import SeqtrGrounderConfig
from namepin.tools.images.polygons import mask_of
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, ScoredBox
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.loading.pretrained import device_named, shared_model
from namepin.tools.media import Media, picture
from namepin.tools.models.ofa import as_in_riveg
from namepin.tools.models.seqtr_checkpoint import SeqtrCheckpoint, load_seqtr
from namepin.tools.models.seqtr_vocabulary import normalise_words, rows_of
from namepin.tools.nets.seqtr import STRIDE, TokenSequences
from namepin.tools.types import Box, ImageRef, Mask, Notice


@dataclass(frozen=True)
class EncodedPicture:
    """A picture's features, and the padded picture's width and height in pixels of the original."""

    features: Tensor
    width: float
    height: float


class SeqtrModel:
    """A loaded SeqTR, safe for several threads."""

    def __init__(self, config: SeqtrGrounderConfig, checkpoint: SeqtrCheckpoint) -> None:
        self.device = device_named(config.device)
        self.net = checkpoint.net.eval().requires_grad_(False).to(self.device)
        self.vocabulary, self.identity = checkpoint.vocabulary, checkpoint.identity
        self._size = config.image_size
        self._pictures: LruCache[str, EncodedPicture] = LruCache(config.cached_pictures)

    def see(self, image: ImageRef, media: Media) -> EncodedPicture:
        """The encoded picture, cached.

        Raises:
            NamepinError: E120 when it is not in `media`.
        """
        seen = self._pictures.get(image.sha256)
        if seen is None:
            pixels, width, height = prepare(np.asarray(picture(image, media)), self._size)
            seen = EncodedPicture(self.net.look(pixels[None].to(self.device)), width, height)
            self._pictures.put(image.sha256, seen)
        return seen


def _load(config: SeqtrGrounderConfig, path: Path, sha256: str) -> SeqtrModel:
    return SeqtrModel(config, load_seqtr(path, sha256, vocabulary=config.vocabulary, average=config.average))


class SeqtrGrounder:
    """One pass through DarkNet per picture, and one batch of expressions for all its mentions (`Grounder`).

    A score is the geometric mean of the tokens' probabilities: the four of a box, or an outline's before its end.
    """

    name: ClassVar[str] = "grounder_seqtr"
    version: ClassVar[int] = 1

    def __init__(self, config: SeqtrGrounderConfig) -> None:
        """Load the weights, or share them with another tool of equal settings.

        Raises:
            NamepinError: E210 to E218, see `namepin.tools.models.seqtr_checkpoint`; E217 when masks are requested from
                weights for boxes.
        """
        self.config = config
        self.model = shared_model(config, _load)
        if config.task == "mask" and not self.model.net.sizes.corners:
            raise NamepinError(
                "E217",
                "the weights predict boxes, not masks",
                where=config.weights,
                mend="take segm_best.pth, or set task to box and add a segmenter",
            )

    @property
    def fingerprint(self) -> str:
        """Covers weights, task, picture size and number of words; not device and batch sizes."""
        settings = self.config.model_dump(include={"task", "max_words", "image_size"})
        return fingerprint(self.name, self.version, settings, weights=self.model.identity)

    def run(self, requests: Sequence[GroundRequest], media: Media) -> list[Groundings]:
        """At most one box, and its mask, for every query of every request.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small, or the weights give numbers that are not finite.
        """
        with torch.inference_mode():
            return [self._groundings(request, media) for request in check_expressions(requests)]

    def _groundings(self, request: GroundRequest, media: Media) -> Groundings:
        if not request.queries:
            return Groundings(groundings=())
        (seen, *_), halved = in_batches(1, 1, lambda _: self.model.see(request.image, media), self.name)
        texts = [normalise_words(as_in_riveg(query.expression)) for query in request.queries]
        most, vocabulary = self.config.max_words, self.model.vocabulary
        ids = torch.tensor([rows_of(words, vocabulary, most) for words in texts], device=self.model.device)

        def write(part: slice) -> tuple[TokenSequences | None, TokenSequences | None]:
            return self.model.net.write(self.model.net.read(seen.features, ids[part]))

        parts, more = in_batches(len(texts), self.config.text_batch, write, self.name)
        found = [answer for part in parts for answer in self._answers(*part, seen, request.image)]
        cut = sum(len(words) > most for words in texts)
        strange = sum(not any(word in vocabulary for word in words[:most]) for words in texts)
        empty = sum(not grounded.boxes for grounded in found)
        notices = [
            Notice(code=code, tool=self.name, message=message)
            for code, count, message in (
                ("W145", cut, f"of {cut} expressions only the first {most} words were read"),
                ("W147", empty, f"{empty} answers were inverted or empty, or outside the picture; they were left out"),
                ("W148", strange, f"of {strange} expressions no word is in the vocabulary: the box says little"),
            )
            if count
        ]
        return Groundings(groundings=tuple(found), notices=(*notices, *halved, *more))

    def _answers(
        self, box: TokenSequences | None, outline: TokenSequences | None, seen: EncodedPicture, image: ImageRef
    ) -> list[Grounded]:
        boxes = self._boxes(box, seen, image) if box else []
        if outline is None or (box and self.config.task == "box"):
            return [Grounded(boxes=(found,) if found else ()) for found in boxes]
        answers = []
        for i, (mask, score) in enumerate(self._masks(outline, seen, image)):
            tight = mask.tight_box() if mask else None
            found = boxes[i] if boxes else ScoredBox(box=tight, score=score) if tight else None
            mask = mask if self.config.task != "box" and found else None
            answers.append(Grounded(boxes=(found,) if found else (), mask=mask))
        return answers

    def _boxes(self, written: TokenSequences, seen: EncodedPicture, image: ImageRef) -> list[ScoredBox | None]:
        boxes: list[ScoredBox | None] = []
        for tokens, chances in _rows(written):
            box = box_of(tokens, seen, self.model.net.sizes.bins, (image.width, image.height))
            score = self._score(chances)
            boxes.append(ScoredBox(box=box, score=score) if box else None)
        return boxes

    def _masks(self, written: TokenSequences, seen: EncodedPicture, image: ImageRef) -> list[tuple[Mask | None, float]]:
        masks = []
        for tokens, chances in _rows(written):
            corners = corners_of(tokens, seen, self.model.net.sizes.bins)
            score = self._score(chances[: max(2 * len(corners), 1)])
            mask = mask_of([corners], (image.height, image.width)) if len(corners) > 2 else None
            masks.append((mask if mask and mask.tight_box() else None, score))
        return masks

    def _score(self, chances: Sequence[float]) -> float:
        if not all(0 < chance < math.inf for chance in chances):
            raise ToolUnavailable(self.name, "the model's scores are not finite numbers", mend="check its weights")
        return math.exp(sum(map(math.log, chances)) / len(chances))


def _rows(written: TokenSequences) -> list[tuple[list[int], list[float]]]:
    return list(zip(written.tokens.tolist(), written.probabilities.double().tolist(), strict=True))


def prepare(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]", size: int) -> tuple[Tensor, float, float]:
    """A picture (h, w, 3) as SeqTR's input: (3, height, width) float32 from 0 to 255, sides multiples of 32.

    Returns:
        The padded picture, and its width and height in pixels of the original.
    """
    import cv2

    height, width = pixels.shape[:2]
    scale = size / max(height, width)
    wide, high = max(int(width * scale + 0.5), 1), max(int(height * scale + 0.5), 1)
    filled = np.zeros((-(-high // STRIDE) * STRIDE, -(-wide // STRIDE) * STRIDE, 3), dtype=np.float32)
    filled[:high, :wide] = cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_LINEAR)
    tensor = torch.from_numpy(filled).permute(2, 0, 1).contiguous()
    return tensor, filled.shape[1] * width / wide, filled.shape[0] * height / high


def box_of(tokens: Sequence[int], seen: EncodedPicture, bins: int, size: tuple[int, int]) -> Box | None:
    """The part of a box inside a picture of (width, height); None when it is inverted or empty."""
    left, top, right, bottom = tokens
    x, y = seen.width / bins, seen.height / bins
    return clip_box((left * x, top * y, right * x, bottom * y), size) if left < right and top < bottom else None


def corners_of(tokens: Sequence[int], seen: EncodedPicture, bins: int) -> list[tuple[float, float]]:
    """An outline's corners before its first end token, in pixels of the picture; an incomplete corner is left out."""
    written = list(tokens[: tokens.index(bins)] if bins in tokens else tokens)
    return [(x * seen.width / bins, y * seen.height / bins) for x, y in zip(written[::2], written[1::2], strict=False)]
