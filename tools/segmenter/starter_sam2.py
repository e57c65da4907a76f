"""The starter's masks for people and words, SAM 2's for things.

A face's box is no prompt for its person, and letters are thin: there the starter's segmenter is the better one. SAM 2
encodes the picture only where a thing was found. It gets the box alone, since the middle of a box may lie beside its
thing.
"""

from collections.abc import Sequence
from typing import ClassVar

from namepin.tools.base import fingerprint
from namepin.tools.interfaces import Segment, SegmentPrompt, SegmentRequest, Segments
from namepin.tools.media import Media
from namepin.tools.models.sam2 import Sam2
from namepin.tools.segmenter.config import Sam2SegmenterConfig, SegmenterConfig, StarterSam2Config
from namepin.tools.segmenter.grabcut import GrabCutSegmenter
from namepin.tools.segmenter.sam2 import Sam2Segmenter
from namepin.tools.types import Notice


class StarterSam2Segmenter:
    """Sends every prompt to one of two segmenters, by the kind of its region."""

    name: ClassVar[str] = "segmenter_starter_sam2"
    version: ClassVar[int] = 1

    def __init__(self, config: StarterSam2Config, sam: Sam2 | None = None) -> None:
        """Use `sam` if given, else load or share the model of `config.sam`.

        Raises:
            NamepinError: E210 to E216, as `namepin.tools.models.sam2.shared_sam2`.
        """
        self.config = config
        self._starter = GrabCutSegmenter(SegmenterConfig(scene=config.scene, side=config.side))
        self._things = Sam2Segmenter(Sam2SegmenterConfig(sam=config.sam), sam)

    @property
    def fingerprint(self) -> str:
        """Covers both segmenters."""
        parts = {"starter": self._starter.fingerprint, "things": self._things.fingerprint}
        return fingerprint(self.name, self.version, parts)

    def run(self, requests: Sequence[SegmentRequest], media: Media) -> list[Segments]:
        """One segment per prompt."""
        return [self._segments(request, media) for request in requests]

    def _segments(self, request: SegmentRequest, media: Media) -> Segments:
        things = [at for at, prompt in enumerate(request.prompts) if _is_thing(prompt)]
        others = [at for at in range(len(request.prompts)) if at not in things]
        segments: dict[int, Segment] = {}
        notices: list[Notice] = []
        for tool, chosen in ((self._starter, others), (self._things, things)):
            if not chosen:
                continue
            prompts = [request.prompts[at] for at in chosen]
            if tool is self._things:
                prompts = [prompt.model_copy(update={"peak": None}) for prompt in prompts]
            part = request.model_copy(update={"prompts": tuple(prompts)})
            (found,) = tool.run([part], media)
            segments |= dict(zip(chosen, found.segments, strict=True))
            notices += found.notices
        return Segments(segments=tuple(segments[at] for at in range(len(request.prompts))), notices=tuple(notices))


def _is_thing(prompt: SegmentPrompt) -> bool:
    return prompt.kind == "object" or (prompt.kind is None and prompt.box is not None)
