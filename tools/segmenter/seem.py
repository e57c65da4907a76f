"""SEEM as a segmenter: turns a point (or a box) and the category as words into a mask and its tight box."""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.geometry import clip_box, clip_point
from namepin.tools.interfaces import SegmentPrompt, SegmentRequest, Segments
from namepin.tools.media import Media
from namepin.tools.models.seem import Ask, SeemModel, shared_seem
from namepin.tools.segmenter.config import SeemSegmenterConfig
from namepin.tools.segmenter.prompts import category_words, nothing_found, segment_of, stability


class SeemSegmenter:
    """Encodes the picture once per request. A prompt without point and box is segmented by its words alone.

    `Segment.score` is the mean probability of the mask's pixels.
    """

    name: ClassVar[str] = "segmenter_seem"
    version: ClassVar[int] = 2

    def __init__(self, config: SeemSegmenterConfig, seem: SeemModel | None = None) -> None:
        """Use `seem` if given, else load or share the model of `config.seem`.

        Raises:
            NamepinError: E210 to E218, as `shared_seem`.
        """
        self.config = config
        self.seem = seem or shared_seem(config.seem)

    @property
    def fingerprint(self) -> str:
        """Covers weights, version and the picture's scaling; not device and batch sizes."""
        identity = self.seem.identity
        return fingerprint(self.name, self.version, identity, weights=identity["checkpoint"])

    def run(self, requests: Sequence[SegmentRequest], media: Media) -> list[Segments]:
        """One segment per prompt.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
        """
        return [self._segments(request, media) for request in requests]

    def _segments(self, request: SegmentRequest, media: Media) -> Segments:
        size = request.image.width, request.image.height
        segments, notices = [], []
        if request.prompts:
            features = self.seem.features(request.image, media)
            for prompt, answer in zip(
                request.prompts,
                self.seem.answers(
                    features, size, [ask_of(prompt, size, self.seem.config.sees) for prompt in request.prompts]
                ),
                strict=True,
            ):
                logits = self.seem.full_size(answer, size)
                segments.append(segment_of((logits > 0).numpy(), confidence(logits), stability(logits)))
                if segments[-1].mask is None:
                    notices.append(nothing_found(prompt, self.name))
        return Segments(segments=tuple(segments), notices=tuple(notices))


def ask_of(prompt: SegmentPrompt, size: tuple[int, int], sees: Literal["both", "words"] = "both") -> Ask:
    """The prompt for SEEM: its place clipped to the picture, unless only words are seen, and its category in words."""
    if sees == "words":
        return Ask(None, None, category_words(prompt.query))
    point = clip_point(prompt.peak, size) if prompt.peak else None
    box = clip_box(prompt.box, size) if prompt.box else None
    return Ask(point, box, category_words(prompt.query))


def confidence(logits: Tensor) -> float | None:
    """The mean probability of the pixels inside, 0.5 to 1; None for an empty mask."""
    inside = logits[logits > 0]
    return float(inside.double().sigmoid().mean()) if len(inside) else None
