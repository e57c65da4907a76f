"""Find the people in a picture by their faces, with the YuNet detector that lies in `tools/weights/people`.

The detector alone takes clocks and cats for faces, with scores that small true faces have, too. So a face below a clear
score counts only when the person segmenter sees somebody there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from namepin.tools.base import digest, file_sha256
from namepin.tools.geometry import Rectangle, box_iou
from namepin.tools.vision.bodies import CROPS, body_segmenter, crop_around
from namepin.tools.vision.config import PeopleConfig
from namepin.tools.vision.grabcut import Pixels, resize

MODEL = Path(__file__).resolve().parents[1] / "weights" / "people" / "yunet_n.onnx"

_STRIDES = (8, 16, 32)
"""Pixels between two places at which the detector looks, at its three scales."""

_CLEAR = 0.8
"""A detector's score from which on no false face was seen on the open photographs (docs/decisions.md)."""

_CONFIRMED, _DOUBTFUL = 0.98, 0.85
"""Shares of true faces among those that score at least `_CLEAR`, and among the others that are reported."""


@dataclass(frozen=True)
class Person:
    """A person by the face, in pixels of the upright picture.

    Attributes:
        box: the face, from brow to chin and from cheek to cheek; it is usually higher than wide.
        confidence: the share of such detections that were people on the pictures counted.
        sharpness: 0 (a blur) to 1 (in focus); people in the background of a portrait are blurred.
    """

    box: Rectangle
    confidence: float
    sharpness: float

    @property
    def prominence(self) -> float:
        """How likely a caption is about this person: larger and sharper is more likely. Only ratios mean something."""
        return (self.box[2] - self.box[0]) * (0.25 + 0.75 * self.sharpness) * self.confidence


class PeopleFinder:
    """Faces from any side that shows at least one eye. Safe to call from several threads."""

    def __init__(self, config: PeopleConfig) -> None:
        import onnxruntime

        self.config = config
        options = onnxruntime.SessionOptions()
        # One thread needs no pool of its own beside the OCR's, and takes 15 ms.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._net: Any = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])

    @cached_property
    def weights(self) -> str:
        """Sha256 over the model files."""
        return digest([file_sha256(MODEL), body_segmenter().weights])

    def find(self, image: Image.Image) -> tuple[Person, ...]:
        """The people in an upright RGB picture, the most prominent first."""
        small, scale = resize(image, self.config.side, enlarge=4.0)
        if min(small.shape[:2]) < 16:
            return ()
        smallest = self.config.smallest * max(small.shape[:2])
        found = []
        for box, score in self._faces(small):
            if max(box[2] - box[0], box[3] - box[1]) < smallest:
                continue
            if score >= _CLEAR or _somebody_there(small, box):
                confidence = _CONFIRMED if score >= _CLEAR else _DOUBTFUL
                found.append(_scale(Person(box, confidence, _sharpness(small, box)), 1 / scale, image.size))
        return tuple(sorted(found, key=lambda p: (-p.prominence, p.box))[: self.config.most])

    def _faces(self, small: Pixels) -> list[tuple[Rectangle, float]]:
        """Boxes in pixels of `small` (height, width, RGB), and their scores; one box per face."""
        height, width = small.shape[:2]
        padded = np.zeros((1, 3, -(-height // 32) * 32, -(-width // 32) * 32), np.float32)
        padded[0, :, :height, :width] = small[..., ::-1].transpose(2, 0, 1)  # the net was trained on BGR
        outputs = self._net.run(None, {"input": padded})
        candidates = []
        for i, stride in enumerate(_STRIDES):
            classes, objects, boxes = outputs[i][0, :, 0], outputs[3 + i][0, :, 0], outputs[6 + i][0]
            scores = np.sqrt(classes.clip(0, 1) * objects.clip(0, 1))
            for at in np.flatnonzero(scores >= self.config.score):
                row, column = divmod(int(at), padded.shape[3] // stride)
                candidates.append((_decode(boxes[at], row, column, stride), float(scores[at])))
        return _without_repeats(candidates)


def _decode(box: NDArray[np.float32], row: int, column: int, stride: int) -> Rectangle:
    """A box from the detector's four numbers: the middle's distance from the place, and the sides' logarithms."""
    x, y = (column + float(box[0])) * stride, (row + float(box[1])) * stride
    half_width, half_height = np.exp(np.minimum(box[2:].astype(np.float64), 8.0)) * stride / 2
    return float(x - half_width), float(y - half_height), float(x + half_width), float(y + half_height)


def _without_repeats(candidates: Sequence[tuple[Rectangle, float]]) -> list[tuple[Rectangle, float]]:
    """One detection per face: the better one of two that overlap."""
    kept: list[tuple[Rectangle, float]] = []
    for box, score in sorted(candidates, key=lambda c: (-c[1], c[0])):
        if all(box_iou(box, other) < 0.3 for other, _ in kept):
            kept.append((box, score))
    return kept


def _somebody_there(small: Pixels, face: Rectangle) -> bool:
    """Whether the person segmenter, from nearby or from afar, takes the place of a face for a person."""
    picture = Image.fromarray(small)
    x1, y1, x2, y2 = (max(0, round(value)) for value in face)
    for look in (CROPS[0], CROPS[2]):
        odds = body_segmenter().log_odds(picture, crop_around(face, *look), 1.0, small.shape[:2])
        if odds[y1:y2, x1:x2].size and float(odds[y1:y2, x1:x2].mean()) > 0:
            return True
    return False


def _sharpness(small: Pixels, box: Rectangle) -> float:
    """Edge strength of the box at a fixed size, relative to its contrast, so that light and size cancel out."""
    import cv2

    x1, y1 = max(0, round(box[0])), max(0, round(box[1]))
    cut = small[y1 : max(round(box[3]), y1 + 1), x1 : max(round(box[2]), x1 + 1)]
    if not cut.size:
        return 0.0
    grey = cv2.cvtColor(np.ascontiguousarray(cut), cv2.COLOR_RGB2GRAY)
    shrinks = grey.shape[1] > 64
    close = cv2.resize(grey, (64, 64), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR).astype(np.float32)
    edges = float(cv2.Laplacian(close, cv2.CV_32F).std())
    return float(np.clip(edges / (float(close.std()) + 1e-3) / 0.5, 0.0, 1.0))


def _scale(person: Person, factor: float, size: tuple[int, int]) -> Person:
    x1, y1, x2, y2 = (value * factor for value in person.box)
    box = (max(0.0, x1), max(0.0, y1), min(float(size[0]), x2), min(float(size[1]), y2))
    return Person(box, person.confidence, person.sharpness)
