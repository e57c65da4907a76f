"""Find the people in a picture with the classifiers that ship inside OpenCV.

One Haar cascade alone takes knots, logos and flowers for faces. Two cascades trained separately hardly ever agree on
one, so a proposal of the first (`alt2`) counts only when a second (`alt`) sees a face in a close-up of the place, and
counts fully when the eye cascade sees an eye there. OpenCV's upper-body cascade is left out: beside 81 visible faces it
found 4 bodies and 20 things that were none.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from namepin.tools.base import digest, file_sha256
from namepin.tools.errors import Exit, NamepinError, install_command
from namepin.tools.geometry import Rectangle, box_iou
from namepin.tools.vision.config import PeopleConfig
from namepin.tools.vision.grabcut import resize, turned_back

Grey = NDArray[np.uint8]

_CASCADES = {
    "frontal": "haarcascade_frontalface_alt2.xml",
    "second": "haarcascade_frontalface_alt.xml",
    "eye": "haarcascade_eye.xml",
    "profile": "haarcascade_profileface.xml",
}

# Shares of true detections, counted by eye over 89 photographs of people and 34 other pictures (docs/decisions.md):
# confirmed 107 of 108 (the other a head on a coin), seconded without an eye 2 of 4.
_CONFIRMED, _DOUBTFUL = 0.98, 0.5
_PROFILE = 0.7
"""Too rare in those pictures to count; set so that it is just believed."""


@dataclass(frozen=True)
class Person:
    """A person by the face, in pixels of the upright picture.

    Attributes:
        box: the face's square, from brow to chin and a little wider than the cheeks.
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
    """Faces from the front, else tilted, else from the side. Safe to call from several threads."""

    def __init__(self, config: PeopleConfig) -> None:
        import cv2

        self.config = config
        self._cv2: Any = cv2
        self._files = {name: Path(self._cv2.data.haarcascades) / file for name, file in _CASCADES.items()}
        absent = [str(file.name) for file in self._files.values() if not file.is_file()]
        if absent:
            mend = install_command("opencv-python-headless>=4.10,<5")
            raise NamepinError(
                "E215",
                f"OpenCV came without {', '.join(absent)}",
                where="people",
                mend=mend,
                exit_code=Exit.UNREACHABLE,
            )
        self._cascades = {name: cv2.CascadeClassifier(str(file)) for name, file in self._files.items()}
        self._lock = threading.Lock()  # a cascade keeps buffers between its own calls

    @cached_property
    def weights(self) -> str:
        """Sha256 over the cascades."""
        return digest({name: file_sha256(file) for name, file in self._files.items()})

    def find(self, image: Image.Image) -> tuple[Person, ...]:
        """The people in an upright RGB picture, the most prominent first."""
        small, scale = resize(image, self.config.side, enlarge=2.0)
        if min(small.shape[:2]) < 24:
            return ()
        grey: Grey = self._cv2.cvtColor(small, self._cv2.COLOR_RGB2GRAY)
        with self._lock:
            people = self._frontal(grey) or self._find_tilted(grey) or self._profiles(grey)
        upright = (image.width, image.height)
        found = [_scale(person, 1 / scale, upright) for person in _without_repeats(people)]
        return tuple(sorted(found, key=lambda p: (-p.prominence, p.box))[: self.config.most])

    def _frontal(self, grey: Grey) -> list[Person]:
        people = []
        for box in self._detect("frontal", grey, self._smallest(grey), neighbours=3):
            confidence = self._face_confidence(grey, box)
            if confidence:
                people.append(Person(box, confidence, self._sharpness(grey, box)))
        return people

    def _face_confidence(self, grey: Grey, box: Rectangle) -> float:
        """By what the second cascade and the eye cascade see in a close-up; 0 where the second sees no face."""
        close = self._close_up(grey, box, margin=0.5, side=176)
        face = close.shape[1] // 2  # the margin is half a face on either side
        seconded = bool(self._detect("second", close, int(face * 0.6), neighbours=6, step=1.05))
        upper = self._close_up(grey, (box[0], box[1], box[2], box[1] + 0.6 * (box[3] - box[1])), margin=0.0, side=120)
        eyes = bool(self._detect("eye", upper, 18, neighbours=3, step=1.08))
        return (_CONFIRMED if eyes else _DOUBTFUL) if seconded else 0.0

    def _find_tilted(self, grey: Grey) -> list[Person]:
        """Faces on heads held askew; every further look invites false alarms, so only confirmed ones count."""
        height, width = grey.shape
        for angle in self.config.tilts:
            turn = self._cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
            turned = self._cv2.warpAffine(grey, turn, (width, height), borderMode=self._cv2.BORDER_REPLICATE)
            people = [p for p in self._frontal(turned) if p.confidence >= _CONFIRMED]
            if people:
                return [Person(turned_back(p.box, turn), p.confidence, p.sharpness) for p in people]
        return []

    def _profiles(self, grey: Grey) -> list[Person]:
        """Heads seen from the side; the cascade knows one side only, so the mirrored picture is searched too."""
        width = grey.shape[1]
        smallest = 2 * self._smallest(grey)
        left = self._detect("profile", grey, smallest, neighbours=4)
        mirrored = self._detect("profile", np.ascontiguousarray(grey[:, ::-1]), smallest, neighbours=4)
        right = [(width - x2, y1, width - x1, y2) for x1, y1, x2, y2 in mirrored]
        agreed = [box for box in right if any(box_iou(box, other) > 0.3 for other in left)]
        return [Person(box, _PROFILE, self._sharpness(grey, box)) for box in agreed]

    def _smallest(self, grey: Grey) -> int:
        return max(20, round(self.config.smallest * int(max(grey.shape))))

    def _detect(
        self, cascade: str, grey: Grey, smallest: int, *, neighbours: int, step: float = 1.1
    ) -> list[Rectangle]:
        size = (smallest, smallest)
        hits = self._cascades[cascade].detectMultiScale(grey, step, neighbours, minSize=size)
        return sorted((float(x), float(y), float(x + w), float(y + h)) for x, y, w, h in hits)

    def _close_up(self, grey: Grey, box: Rectangle, *, margin: float, side: int) -> Grey:
        """The box and `margin` of its size around it, `side` pixels wide; outside the picture the edge is repeated."""
        x1, y1, x2, y2 = box
        grow_x, grow_y = margin * (x2 - x1), margin * (y2 - y1)
        xs = np.clip(np.arange(round(x1 - grow_x), round(x2 + grow_x)), 0, grey.shape[1] - 1)
        ys = np.clip(np.arange(round(y1 - grow_y), round(y2 + grow_y)), 0, grey.shape[0] - 1)
        cut = grey[np.ix_(ys, xs)]
        size = (side, max(1, round(side * len(ys) / len(xs))))
        shrinks = len(xs) > side
        result: Grey = self._cv2.resize(
            cut, size, interpolation=self._cv2.INTER_AREA if shrinks else self._cv2.INTER_LINEAR
        )
        return result

    def _sharpness(self, grey: Grey, box: Rectangle) -> float:
        """Edge strength of the box at a fixed size, relative to its contrast, so that light and size cancel out."""
        close = self._close_up(grey, box, margin=0.0, side=64).astype(np.float32)
        edges = float(self._cv2.Laplacian(close, self._cv2.CV_32F).std())
        return float(np.clip(edges / (float(close.std()) + 1e-3) / 0.5, 0.0, 1.0))


def _without_repeats(people: Sequence[Person]) -> list[Person]:
    """One detection a person: of two that overlap, the more confident, then the larger."""
    kept: list[Person] = []
    for person in sorted(people, key=lambda p: (-p.confidence, p.box[0] - p.box[2], p.box)):
        if all(box_iou(person.box, other.box) < 0.3 for other in kept):
            kept.append(person)
    return kept


def _scale(person: Person, factor: float, size: tuple[int, int]) -> Person:
    x1, y1, x2, y2 = (value * factor for value in person.box)
    box = (max(0.0, x1), max(0.0, y1), min(float(size[0]), x2), min(float(size[1]), y2))
    return Person(box, person.confidence, person.sharpness)
