"""A detector's boxes, and the one that fits the mention best: the papers' "-OD-EVG" family.

The boxes come from any object detector of transformers, or from a file (`namepin data regions` writes one). Each box
is cut out, and the matcher scores the cutting against every mention. The best box is the answer where its score reaches
the threshold; else the mention is not in the picture. What the detector misses cannot be grounded (RiVEG, Table II).
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from namepin.tools.base import digest, file_sha256, fingerprint
from namepin.tools.caching.lru import LruCache
from namepin.tools.entailment.checks import check_expressions
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import clip_box
from namepin.tools.grounder.config import DetectorConfig, DetectorGrounderConfig
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, MatchRequest, ReferringQuery, ScoredBox
from namepin.tools.jsonl import read_rows
from namepin.tools.loading.pretrained import device_named, load_errors, locate, weights_sha256
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.matcher.blip import BlipMatcher
from namepin.tools.matcher.config import BlipMatcherConfig
from namepin.tools.media import Media, picture
from namepin.tools.types import Box, ImageRef

_MEND = "take an object detector in transformers' form, such as PekingU/rtdetr_r50vd or hustvl/yolos-small"


class Detector:
    """A loaded object detector of transformers."""

    def __init__(self, config: DetectorConfig) -> None:
        """Load the weights.

        Raises:
            NamepinError: E210 to E213; E212 for a model that is not an object detector.
        """
        from transformers import AutoImageProcessor, AutoModelForObjectDetection

        self.config, path = config, locate(config.weights, config.revision)
        self.device, self.identity = device_named(config.device), weights_sha256(path)
        try:
            with load_errors(str(path)), quiet_transformers():
                net: Any = AutoModelForObjectDetection.from_pretrained(path, local_files_only=True)
                self._processor: Any = AutoImageProcessor.from_pretrained(path, local_files_only=True, backend="pil")
        except (ValueError, OSError, KeyError) as error:
            what = f"not an object detector: {str(error).splitlines()[0]}"
            raise NamepinError("E212", what, where=str(path), mend=_MEND) from error
        self._net = net.eval().requires_grad_(False).to(self.device)

    def boxes(self, image: Image.Image) -> list[Box]:
        """The `top` likeliest boxes inside the picture, best first, in its pixels."""
        inputs = self._processor(images=image, return_tensors="pt").to(self.device)
        with torch.inference_mode():
            outputs = self._net(**inputs)
        (found,) = self._processor.post_process_object_detection(
            outputs, threshold=0.0, target_sizes=[(image.height, image.width)]
        )
        order = found["scores"].argsort(descending=True, stable=True).tolist()
        clipped = (clip_box(found["boxes"][at].tolist(), image.size) for at in order)
        return list(dict.fromkeys(box for box in clipped if box))[: self.config.top]


class RecordedBoxes:
    """The boxes of a file, by the picture's sha256."""

    def __init__(self, file: str, top: int) -> None:
        """Read the file: rows `{"image": sha256, "regions": [[x1, y1, x2, y2], ...]}`, best first.

        Raises:
            NamepinError: E130 when it is missing, E134 when a row cannot be understood.
        """
        path = Path(file)
        if not path.is_file():
            raise NamepinError("E130", "no such file", where=file, mend="write it with namepin data regions")

        def row(values: Mapping[str, Any]) -> tuple[str, tuple[Box, ...]]:
            boxes = tuple(tuple(float(edge) for edge in box) for box in values["regions"])
            if any(len(box) != 4 for box in boxes):
                raise ValueError("a region is four numbers")
            return str(values["image"]), boxes[:top]  # type: ignore[return-value]  # four each

        self._boxes = dict(read_rows(path, row, 'a row of {"image", "regions"}'))
        self.identity = file_sha256(path)

    def of(self, image: ImageRef) -> list[Box]:
        """The picture's boxes inside it; none for a picture that the file lacks."""
        clipped = (clip_box(box, (image.width, image.height)) for box in self._boxes.get(image.sha256, ()))
        return [box for box in clipped if box]


class DetectorGrounder:
    """A detector, then the matcher on each of its boxes (`Grounder`). A score is the matcher's probability."""

    name: ClassVar[str] = "grounder_detector"
    version: ClassVar[int] = 1

    def __init__(self, config: DetectorGrounderConfig) -> None:
        """Load detector and matcher, or read the file of boxes.

        Raises:
            NamepinError: E130, E134 for the file; E210 to E218 for weights.
        """
        self.config = config
        self.matcher = BlipMatcher(BlipMatcherConfig(blip=config.blip))
        self._recorded = RecordedBoxes(config.regions, config.detector.top) if config.regions else None
        self._detector = None if self._recorded else Detector(config.detector)
        self._known: LruCache[str, list[Box]] = LruCache(config.detector.cached_pictures)

    @property
    def fingerprint(self) -> str:
        """Covers the boxes' source, their number, the matcher and the threshold; not devices."""
        source: RecordedBoxes | Detector | None = self._recorded or self._detector
        assert source is not None
        settings = {"threshold": self.config.threshold, "top": self.config.detector.top}
        return fingerprint(
            self.name, self.version, {**settings, "matcher": self.matcher.fingerprint}, weights=source.identity
        )

    def run(self, requests: Sequence[GroundRequest], media: Media) -> list[Groundings]:
        """At most one box for every query of every request.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small.
        """
        return [self._groundings(request, media) for request in check_expressions(requests)]

    def _groundings(self, request: GroundRequest, media: Media) -> Groundings:
        boxes = self._regions(request.image, media) if request.queries else []
        if not boxes:
            return Groundings(groundings=tuple(Grounded(boxes=()) for _ in request.queries))
        pixels = picture(request.image, media)
        crops = [pixels.crop((round(x1), round(y1), round(x2), round(y2))) for x1, y1, x2, y2 in map(_grown, boxes)]
        refs = [_crop_ref(request.image, box, crop) for box, crop in zip(boxes, crops, strict=True)]
        asked = [MatchRequest(image=ref, text=request.text, queries=request.queries) for ref in refs]
        images = {ref.sha256: crop for ref, crop in zip(refs, crops, strict=True)}
        scores = [[one.score for one in found.matches] for found in self.matcher.run(asked, Media(images=images))]
        return Groundings(
            groundings=tuple(self._best(at, query, boxes, scores) for at, query in enumerate(request.queries))
        )

    def _regions(self, image: ImageRef, media: Media) -> list[Box]:
        if self._recorded:
            return self._recorded.of(image)
        assert self._detector is not None
        known = self._known.get(image.sha256)
        if known is None:
            known = self._detector.boxes(picture(image, media))
            self._known.put(image.sha256, known)
        return known

    def _best(
        self, at: int, query: ReferringQuery, boxes: Sequence[Box], scores: Sequence[Sequence[float]]
    ) -> Grounded:
        score, box = max(((row[at], box) for row, box in zip(scores, boxes, strict=True)), key=lambda pair: pair[0])
        return Grounded(boxes=(ScoredBox(box=box, score=score),) if score >= self.config.threshold else ())


def _grown(box: Box) -> Box:
    """The box, at least a pixel wide and high."""
    left, top, right, bottom = box
    return left, top, max(right, left + 1), max(bottom, top + 1)


def _crop_ref(image: ImageRef, box: Box, crop: Image.Image) -> ImageRef:
    sha256 = hashlib.sha256(digest([image.sha256, list(box)]).encode()).hexdigest()
    return ImageRef(sha256=sha256, width=crop.width, height=crop.height)
