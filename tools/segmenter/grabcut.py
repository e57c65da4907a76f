"""The starter segmenter: a face grows to its person, GrabCut finds an object in a box, words get their outlines."""

from collections.abc import Sequence
from typing import ClassVar

from PIL import Image

from namepin.tools.base import digest, fingerprint
from namepin.tools.geometry import Rectangle, Region, box_iou, clip_box
from namepin.tools.interfaces import Kind, Segment, SegmentPrompt, SegmentRequest, Segments
from namepin.tools.media import Media
from namepin.tools.segmenter.config import SegmenterConfig
from namepin.tools.types import Mask, Notice, Point
from namepin.tools.vision.bodies import body_segmenter, person_region
from namepin.tools.vision.grabcut import object_region, polygon_region
from namepin.tools.vision.name_search import pieces
from namepin.tools.vision.ocr import Quad, bounds
from namepin.tools.vision.scene import Scene, scene_reader


class GrabCutSegmenter:
    """Masks for people, words and boxes. It works at a bounded size, so its time does not grow with the picture."""

    name: ClassVar[str] = "segmenter"
    version: ClassVar[int] = 2

    def __init__(self, config: SegmenterConfig) -> None:
        self.config = config
        self._scenes = scene_reader(config.scene)

    @property
    def fingerprint(self) -> str:
        """Covers the configuration and the model files of the OCR, the face detector and the person segmenter."""
        weights = digest([self._scenes.weights, body_segmenter().weights])
        return fingerprint("grabcut-segmenter", self.version, self.config.model_dump(mode="json"), weights=weights)

    def run(self, requests: Sequence[SegmentRequest], media: Media) -> list[Segments]:
        """One segment per prompt; a prompt without a known object at its point gets none, and a notice W120."""
        return [self._segments(request, media) for request in requests]

    def _segments(self, request: SegmentRequest, media: Media) -> Segments:
        kinds = {prompt.kind if prompt.box else None for prompt in request.prompts}
        faces, words = bool(kinds & {"face", None}), bool(kinds & {"text", None})
        image, scene = (
            media.images[request.image.sha256],
            self._scenes.read(request.image, media, faces=faces, words=words),
        )
        segments, notices = [], []
        for prompt in request.prompts:
            region = self._region(prompt, image, scene)
            mask = Mask.from_array(region) if region is not None and region.any() else None
            segments.append(Segment(mask=mask, box=mask.tight_box() if mask else None))
            if mask is None:
                notices.append(_nothing_there(prompt))
        return Segments(segments=tuple(segments), notices=tuple(notices))

    def _region(self, prompt: SegmentPrompt, image: Image.Image, scene: Scene) -> Region | None:
        box, kind = prompt.box, prompt.kind
        if box is None:
            box, kind = _at(prompt.peak, scene)
        box = clip_box(box, image.size) if box else None
        if box is None:
            return None
        if kind == "text":
            return polygon_region(image.size, _word_quads(box, scene))
        if kind == "face":
            others = [person.box for person in scene.people if box_iou(person.box, box) < 0.3]
            return person_region(image, box, others, side=self.config.side)
        return object_region(image, box, side=self.config.side)


def _at(peak: Point | None, scene: Scene) -> tuple[Rectangle | None, Kind | None]:
    """The face that holds the point, else the line of text."""
    regions: list[tuple[Rectangle, Kind]] = [(person.box, "face") for person in scene.people]
    regions += [(bounds([line.quad]), "text") for line in scene.lines]
    for box, kind in regions:
        if peak and box[0] <= peak[0] < box[2] and box[1] <= peak[1] < box[3]:
            return box, kind
    return None, None


def _word_quads(box: Rectangle, scene: Scene) -> list[Quad]:
    """The word pieces with their middle inside the box; without any, the box itself."""
    x1, y1, x2, y2 = box
    inside = []
    for word in (word for line in scene.lines for word in line.words):
        for piece in pieces(word):
            left, top, right, bottom = bounds([piece.quad])
            if x1 <= (left + right) / 2 < x2 and y1 <= (top + bottom) / 2 < y2:
                inside.append(piece.quad)
    return inside or [((x1, y1), (x2, y1), (x2, y2), (x1, y2))]


def _nothing_there(prompt: SegmentPrompt) -> Notice:
    what = f"nothing to segment for {prompt.query.text!r}: no face and no words at {prompt.peak}"
    return Notice(code="W120", tool="segmenter", message=what)
