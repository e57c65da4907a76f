"""A baseline: faces by OpenCV's Haar cascades, as Namepin found them before the YuNet detector. For benchmarks only.

It looks from the front, then at the picture turned to either side, then for profiles, and confirms each face with a
second cascade and an eye.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from namepin.tools.vision.grabcut import resize

_SIDE, _SMALLEST, _TILTS = 800, 0.03, (-25.0, 25.0)
_CASCADES = {
    "frontal": "haarcascade_frontalface_default.xml",
    "second": "haarcascade_frontalface_alt.xml",
    "eye": "haarcascade_eye.xml",
    "profile": "haarcascade_profileface.xml",
}

Grey = NDArray[np.uint8]


class HaarFaces:
    """The search for faces; it returns nobody, since only its cost counts."""

    def __init__(self) -> None:
        import cv2

        self._cv2: Any = cv2
        folder = Path(self._cv2.data.haarcascades)
        self._cascades = {name: self._cv2.CascadeClassifier(str(folder / file)) for name, file in _CASCADES.items()}

    def find(self, image: Image.Image) -> tuple[Any, ...]:
        """Search an upright RGB picture."""
        small, _ = resize(image, _SIDE, enlarge=2.0)
        grey = self._cv2.cvtColor(small, self._cv2.COLOR_RGB2GRAY)
        if not self._frontal(grey) and not any(self._frontal(self._turned(grey, angle)) for angle in _TILTS):
            for side in (grey, np.ascontiguousarray(grey[:, ::-1])):
                self._detect("profile", side, 2 * self._smallest(grey), 4)
        return ()

    def _frontal(self, grey: Grey) -> bool:
        boxes = self._detect("frontal", grey, self._smallest(grey), 3)
        return any([self._confirmed(grey, box) for box in boxes])

    def _confirmed(self, grey: Grey, box: tuple[int, int, int, int]) -> bool:
        x, y, width, height = box
        close = grey[max(0, y - height // 2) : y + 3 * height // 2, max(0, x - width // 2) : x + 3 * width // 2]
        eyes = grey[y : y + 6 * height // 10, x : x + width]
        second = self._detect("second", self._cv2.resize(close, (176, 176)), 53, 6, 1.05)
        return bool(self._detect("eye", self._cv2.resize(eyes, (120, 72)), 18, 3, 1.08)) and bool(second)

    def _turned(self, grey: Grey, angle: float) -> Grey:
        height, width = grey.shape
        turn = self._cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        result: Grey = self._cv2.warpAffine(grey, turn, (width, height), borderMode=self._cv2.BORDER_REPLICATE)
        return result

    def _detect(self, name: str, grey: Grey, smallest: int, neighbours: int, step: float = 1.1) -> list[Any]:
        found = self._cascades[name].detectMultiScale(
            grey, scaleFactor=step, minNeighbors=neighbours, minSize=(smallest, smallest)
        )
        return [tuple(map(int, box)) for box in found]

    def _smallest(self, grey: Grey) -> int:
        longer: int = max(grey.shape)
        return max(20, round(_SMALLEST * longer))
