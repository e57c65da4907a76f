"""GEM's own segmenter (section 3.4.3): SAM at the point, SEEM at the point with the category as words, and one mask.

The paper runs both "individually", because SAM alone may segment the head instead of the person. It does not say how
the two masks become one. Namepin's rule:

1. SAM proposes its masks (three for a point: part, whole, group), SEEM one.
2. If one of SAM's masks overlaps SEEM's enough (IoU of `agreement`), both mean the same object. SAM's mask with the
   largest overlap is used, since SAM's outlines are finer.
3. Otherwise they mean different objects. SEEM knows the category, so its mask is used if it holds the point: the person
   rather than the head.
4. If SEEM's mask does not hold the point, SAM's mask of the highest predicted IoU is used.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from namepin.tools.base import fingerprint
from namepin.tools.geometry import Region, clip_box, clip_point, region_iou
from namepin.tools.interfaces import Segment, SegmentPrompt, SegmentRequest, Segments
from namepin.tools.media import Media
from namepin.tools.models.sam import Candidates, Sam, shared_sam
from namepin.tools.models.seem import Answer, SeemModel, shared_seem
from namepin.tools.segmenter.config import GemSegmenterConfig
from namepin.tools.segmenter.prompts import nothing_asked, nothing_found, segment_of, stability
from namepin.tools.segmenter.sam import ask, regions
from namepin.tools.segmenter.seem import ask_of, confidence
from namepin.tools.types import Point


class GemSegmenter:
    """Segments with both nets. Each encodes the picture once per request.

    `Segment.score` comes from the net whose mask is used: SAM's predicted IoU, or SEEM's mean probability inside.
    """

    name: ClassVar[str] = "segmenter_gem"
    version: ClassVar[int] = 2

    def __init__(self, config: GemSegmenterConfig, sam: Sam | None = None, seem: SeemModel | None = None) -> None:
        """Use the given nets, else load or share the nets of `config`.

        Raises:
            NamepinError: E210 to E218, as `shared_sam` and `shared_seem`.
        """
        self.config = config
        self.sam = sam or shared_sam(config.sam)
        self.seem = seem or shared_seem(config.seem)

    @property
    def fingerprint(self) -> str:
        """Covers the weights of both nets, the picture's scaling and the rule."""
        settings = {"sam": self.sam.identity, "seem": self.seem.identity, "agreement": self.config.agreement}
        return fingerprint(self.name, self.version, settings)

    def run(self, requests: Sequence[SegmentRequest], media: Media) -> list[Segments]:
        """One segment per prompt; one without point and box gets none, and a notice W122.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
        """
        return [self._segments(request, media) for request in requests]

    def _segments(self, request: SegmentRequest, media: Media) -> Segments:
        size = request.image.width, request.image.height
        proposed = ask(self.sam, request, media)
        placed = [i for i, candidates in enumerate(proposed) if candidates is not None]
        answers: dict[int, Answer] = {}
        if placed:
            features = self.seem.features(request.image, media)
            asks = [ask_of(request.prompts[i], size, self.seem.config.sees) for i in placed]
            answers = dict(zip(placed, self.seem.answers(features, size, asks), strict=True))
        segments, notices = [], []
        for i, (prompt, candidates) in enumerate(zip(request.prompts, proposed, strict=True)):
            if candidates is None:
                segments.append(Segment())
                notices.append(nothing_asked(prompt, self.name))
                continue
            segments.append(self._segment(prompt, candidates, answers[i], size))
            if segments[-1].mask is None:
                notices.append(nothing_found(prompt, self.name))
        return Segments(segments=tuple(segments), notices=tuple(notices))

    def _segment(self, prompt: SegmentPrompt, candidates: Candidates, answer: Answer, size: tuple[int, int]) -> Segment:
        logits = self.seem.full_size(answer, size)
        seem = (logits > 0).numpy()
        masks = regions(self.sam, candidates, size, range(len(candidates.scores)))
        best = int(candidates.scores.argmax())
        taken = fuse(masks, best, seem, _aim(prompt, size), self.config.agreement)
        if taken is None:
            return segment_of(seem, confidence(logits), stability(logits))
        chosen = self.sam.full_size(candidates.logits[taken : taken + 1], size)[0]
        return segment_of(masks[taken], float(candidates.scores[taken]), stability(chosen))


def _aim(prompt: SegmentPrompt, size: tuple[int, int]) -> Point:
    """The prompt's point, else the middle of its box, inside the picture."""
    if prompt.peak:
        return clip_point(prompt.peak, size)
    box = clip_box(prompt.box, size) if prompt.box else None
    assert box is not None
    return clip_point((int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)), size)


def fuse(sam: Sequence[Region], best: int, seem: Region, aim: Point, agreement: float) -> int | None:
    """The mask to use, by the rule above: the number of SAM's mask, or None for SEEM's.

    Args:
        sam: SAM's masks, each (height, width), bool.
        best: the number of the one with the highest predicted IoU.
        seem: SEEM's mask, (height, width), bool.
        aim: the point, (x, y), that both were prompted with.
        agreement: the IoU from which on two masks mean the same object.
    """
    overlaps = [region_iou(mask, seem) for mask in sam]
    closest = int(np.argmax(overlaps))
    if overlaps[closest] >= agreement:
        return closest
    if seem[aim[1], aim[0]] or not sam[best].any():
        return None
    return best
