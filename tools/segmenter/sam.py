"""SAM as a segmenter: turns a point (GEM section 3.4.3), a box (RiVEG), or both into a mask and its tight box."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from namepin.tools.base import fingerprint
from namepin.tools.geometry import Region, clip_box, clip_point
from namepin.tools.interfaces import Segment, SegmentPrompt, SegmentRequest, Segments
from namepin.tools.media import Media
from namepin.tools.models.sam import Candidates, Sam, shared_sam
from namepin.tools.segmenter.config import SamSegmenterConfig
from namepin.tools.segmenter.prompts import nothing_asked, nothing_found, segment_of, stability
from namepin.tools.types import Box, Point


class SamSegmenter:
    """Encodes the picture once per request; of a point's three masks it uses the one with the highest predicted IoU.

    A box alone gets SAM's single mask (RiVEG's `multimask_output=False`). `Segment.score` is the predicted IoU.
    """

    name: ClassVar[str] = "segmenter_sam"
    version: ClassVar[int] = 2

    def __init__(self, config: SamSegmenterConfig, sam: Sam | None = None) -> None:
        """Use `sam` if given, else load or share the model of `config.sam`.

        Raises:
            NamepinError: E210 to E216, as `shared_sam`.
        """
        self.config = config
        self.sam = sam or shared_sam(config.sam)

    @property
    def fingerprint(self) -> str:
        """Covers weights and version; not device and batch sizes."""
        identity = {**self.sam.identity, **({"specks": self.config.specks} if self.config.specks else {})}
        return fingerprint(self.name, self.version, identity, weights=identity["checkpoint"])

    def run(self, requests: Sequence[SegmentRequest], media: Media) -> list[Segments]:
        """One segment per prompt; one without point and box gets none, and a notice W122.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
        """
        return [self._segments(request, media) for request in requests]

    def _segments(self, request: SegmentRequest, media: Media) -> Segments:
        size = request.image.width, request.image.height
        segments, notices = [], []
        for prompt, candidates in zip(request.prompts, ask(self.sam, request, media), strict=True):
            if candidates is None:
                segments.append(Segment())
                notices.append(nothing_asked(prompt, self.name))
                continue
            best = int(candidates.scores.argmax())
            logits = self.sam.full_size(candidates.logits[best : best + 1], size)[0]
            score = float(candidates.scores[best])
            region = without_specks((logits > 0).numpy(), self.config.specks)
            segments.append(segment_of(region, score, stability(logits)))
            if segments[-1].mask is None:
                notices.append(nothing_found(prompt, self.name))
        return Segments(segments=tuple(segments), notices=tuple(notices))


def without_specks(region: Region, least: float) -> Region:
    """The parts of a mask (height, width) with at least `least` of the largest part's pixels; corners connect."""
    if not least:
        return region
    from scipy import ndimage

    parts, _ = ndimage.label(region, np.ones((3, 3)))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    large_parts: Region = (sizes >= max(1, least * sizes.max()))[parts]
    return large_parts


def ask(sam: Sam, request: SegmentRequest, media: Media) -> list[Candidates | None]:
    """SAM's masks for every prompt; None for a prompt without point and box. Prompts of one kind share a pass."""
    size = request.image.width, request.image.height
    kinds: dict[tuple[bool, bool], list[int]] = {}
    placed = [_place(prompt, size) for prompt in request.prompts]
    for i, (point, box) in enumerate(placed):
        if point or box:
            kinds.setdefault((point is not None, box is not None), []).append(i)
    found: list[Candidates | None] = [None] * len(placed)
    embedding = sam.embedding(request.image, media) if kinds else None
    for (with_point, with_box), members in kinds.items():
        assert embedding is not None
        points = [point for i in members if (point := placed[i][0])] if with_point else None
        boxes = [box for i in members if (box := placed[i][1])] if with_box else None
        for i, candidates in zip(members, sam.candidates(embedding, size, points, boxes), strict=True):
            found[i] = candidates
    return found


def _place(prompt: SegmentPrompt, size: tuple[int, int]) -> tuple[Point | None, Box | None]:
    point = clip_point(prompt.peak, size) if prompt.peak else None
    return point, clip_box(prompt.box, size) if prompt.box else None


def regions(sam: Sam, candidates: Candidates, size: tuple[int, int], which: Sequence[int]) -> list[Region]:
    """The masks numbered `which` at the picture's size (width, height), one at a time, because they can be large."""
    return [(sam.full_size(candidates.logits[i : i + 1], size)[0] > 0).numpy() for i in which]
