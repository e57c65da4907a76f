"""Grow a face to the whole person: a small person segmenter and a body's proportions.

The segmenter (MediaPipe's selfie segmentation, 256 x 256) says where people are, but not which pixel is whose. The
proportions of a body below its face, and below the other faces in the picture, say that. Both are log odds and are
added. GrabCut on top of it made masks and boxes worse and took twice the time.
"""

import threading
from collections.abc import Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from namepin.tools.base import file_sha256
from namepin.tools.geometry import Rectangle, Region, clip_point
from namepin.tools.vision.grabcut import Pixels, enlarge_region, fill_ellipse, resize, scale_box

LogOdds = NDArray[np.float32]
"""(height, width): above 0 where a pixel more likely belongs to the person than not."""

MODEL = Path(__file__).resolve().parents[1] / "weights" / "people" / "selfie_segmentation.tflite"

_SIDE = 256
"""The segmenter's picture, in pixels."""

CROPS = ((4.0, 1.5, 6.5), (6.0, 1.5, 10.5), (2.0, 1.0, 3.0))
"""What the segmenter looks at, in face widths: to either side of the face's middle, above its top, below its top. The
first holds somebody who sits, the second somebody who stands, the third head and shoulders in finer detail."""

_DEPTHS = (4.0, 9.5)
"""Where a body ends, in face widths below the chin: at the lap, and at the feet. Between them the prior is neutral."""

_SLOPE = 3.0
"""Log odds of the proportions per face width from the body's outline."""

_OUT_OF_REACH = -3.0
"""Log odds of what lies outside all looks."""

_BIAS = 0.5
"""Added to the sum, since both parts tend to lose hands and feet."""

# All of these were chosen on the open half of the photographs, where 80% of the boxes hold for a wide range of each
# (docs/decisions.md).


class BodySegmenter:
    """Where people are. Safe to call from several threads."""

    def __init__(self) -> None:
        import cv2

        self._net: Any = cv2.dnn.readNetFromTFLite(str(MODEL))
        self._lock = threading.Lock()  # a network keeps its input between its own calls

    @cached_property
    def weights(self) -> str:
        """Sha256 of the model file."""
        return file_sha256(MODEL)

    def log_odds(self, image: Image.Image, box: Rectangle, scale: float, shape: tuple[int, ...]) -> LogOdds:
        """The log odds that a pixel shows a person, of shape `shape`, for the picture scaled by `scale`.

        Args:
            image: the upright RGB picture.
            box: what the network looks at, in its pixels; outside the picture the edge is repeated.
            scale: the factor from the picture to the result.
            shape: height and width of the result. It is NaN outside the box.
        """
        import cv2

        cut = _cut_out(image, box).astype(np.float32) / 255
        with self._lock:
            self._net.setInput(np.ascontiguousarray(cut.transpose(2, 0, 1)[None]))
            probability = self._net.forward()[0, 0]
        x_step, y_step = (box[2] - box[0]) * scale / _SIDE, (box[3] - box[1]) * scale / _SIDE
        place = np.array(
            [[x_step, 0, box[0] * scale + 0.5 * x_step - 0.5], [0, y_step, box[1] * scale + 0.5 * y_step - 0.5]]
        )
        spread = cv2.warpAffine(probability, place, (shape[1], shape[0]), borderValue=float("nan"))
        spread = np.clip(spread, 0.02, 0.98)
        result: LogOdds = np.log(spread / (1 - spread)).astype(np.float32)
        return result


@lru_cache(maxsize=1)
def body_segmenter() -> BodySegmenter:
    """The one segmenter of this process."""
    return BodySegmenter()


def person_region(image: Image.Image, face: Rectangle, others: Sequence[Rectangle] = (), *, side: int = 320) -> Region:
    """Grow a face to the whole person.

    Args:
        image: the upright RGB picture.
        face: from brow to chin and from cheek to cheek, in its pixels.
        others: further faces, which belong to other people.
        side: the long side at which the outline is found; the time grows with its square.

    Returns:
        Boolean (height, width) at the picture's full size. Never empty: the face belongs to it.
    """
    small, scale = resize(image, side)
    odds = _body_odds(small.shape[:2], scale_box(face, scale), [scale_box(other, scale) for other in others])
    looks = [body_segmenter().log_odds(image, crop_around(face, *crop), scale, small.shape[:2]) for crop in CROPS]
    grown: Region = odds + _mean_look(looks) + _BIAS > 0
    fill_ellipse(grown, *_skin(scale_box(face, scale)))
    x, y = clip_point((int(scale * (face[0] + face[2]) / 2), int(scale * (face[1] + face[3]) / 2)), small.shape[1::-1])
    grown[y, x] = True
    whole = _piece_at(grown, x, y)
    result = enlarge_region(whole, image.size)
    fill_ellipse(result, *_skin(face))
    return result


def _mean_look(looks: Sequence[LogOdds]) -> LogOdds:
    """The mean over the looks that reach a pixel; where none does, a person is unlikely."""
    stacked = np.stack(looks)
    reached = np.isfinite(stacked)
    mean = np.where(reached, stacked, 0.0).sum(axis=0) / np.maximum(reached.sum(axis=0), 1)
    result: LogOdds = np.where(reached.any(axis=0), mean, _OUT_OF_REACH).astype(np.float32)
    return result


def crop_around(face: Rectangle, sideways: float, above: float, below: float) -> Rectangle:
    """The part of a picture around a face; the last three as in `CROPS`. It may leave the picture."""
    unit, centre = max(face[2] - face[0], 1.0), (face[0] + face[2]) / 2
    return centre - sideways * unit, face[1] - above * unit, centre + sideways * unit, face[1] + below * unit


def _cut_out(image: Image.Image, box: Rectangle) -> Pixels:
    """The box at the segmenter's size; outside the picture the edge is repeated."""
    x1, y1, x2, y2 = box
    left, top = min(max(x1, 0.0), image.width - 1.0), min(max(y1, 0.0), image.height - 1.0)
    right, bottom = max(min(x2, image.width), left + 1), max(min(y2, image.height), top + 1)
    columns = [round(_SIDE * (value - x1) / (x2 - x1)) for value in (left, right)]
    rows = [round(_SIDE * (value - y1) / (y2 - y1)) for value in (top, bottom)]
    columns = [min(max(columns[0], 0), _SIDE - 1), min(max(columns[1], 1), _SIDE)]
    rows = [min(max(rows[0], 0), _SIDE - 1), min(max(rows[1], 1), _SIDE)]
    size = max(columns[1] - columns[0], 1), max(rows[1] - rows[0], 1)
    inside = image.resize(size, Image.Resampling.BILINEAR, (left, top, right, bottom), 2.0)
    margins = ((rows[0], _SIDE - rows[0] - size[1]), (columns[0], _SIDE - columns[0] - size[0]), (0, 0))
    return np.pad(np.asarray(inside), margins, mode="edge")


def _piece_at(region: Region, x: int, y: int) -> Region:
    """The connected piece of a region that holds (x, y), with its holes filled."""
    from scipy import ndimage

    pieces, _ = ndimage.label(region)
    filled: Region = ndimage.binary_fill_holes(pieces == pieces[y, x])
    return filled


def _body_odds(shape: tuple[int, ...], face: Rectangle, others: Sequence[Rectangle]) -> LogOdds:
    """The log odds of the proportions: of one's own body, less what other people's bodies claim more strongly."""
    own = _figure_odds(shape, face)
    if not others:
        return own
    rival = np.max([_figure_odds(shape, other) for other in others], axis=0)
    result: LogOdds = own - np.clip(2 * (rival - own), 0.0, 8.0)
    return result


def _figure_odds(shape: tuple[int, ...], face: Rectangle) -> LogOdds:
    """The log odds that a pixel belongs to an upright body below this face, whatever the picture shows there."""
    import cv2

    unit = max(face[2] - face[0], 1.0)
    coarse = min(1.0, 160 / max(shape))  # proportions need no finer grid
    height, width = (max(1, round(n * coarse)) for n in shape[:2])
    margin = 60  # a body goes on outside the picture, whose edge is not its outline
    x1, y1, x2, y2 = (value * coarse + margin for value in face)
    total: LogOdds = np.zeros((height, width), np.float32)
    for depth in _DEPTHS:
        body = _figure((height + 2 * margin, width + 2 * margin), (x1, y1, x2, y2), depth)
        inside = cv2.distanceTransform(body, cv2.DIST_L2, 5) - cv2.distanceTransform(1 - body, cv2.DIST_L2, 5)
        reach = inside[margin : margin + height, margin : margin + width] / (unit * coarse)
        total += np.clip(_SLOPE * reach, -3.0, 2.0) / len(_DEPTHS)
    return np.asarray(cv2.resize(total, (shape[1], shape[0])), np.float32)


def _figure(shape: tuple[int, int], face: Rectangle, depth: float) -> Pixels:
    """An upright figure below a face: 1 inside, 0 outside. `depth` is in face widths below the chin."""
    import cv2

    x1, y1, x2, y2 = face
    unit, tall, centre = x2 - x1, y2 - y1, (x1 + x2) / 2
    body = np.zeros(shape, np.uint8)
    head = max(1, int(0.78 * unit)), max(1, int(0.62 * unit + 0.35 * tall))
    cv2.ellipse(body, (int(centre), int(y1 + 0.45 * tall)), head, 0, 0, 360, 1, -1)
    outline = [(0.36, -0.1), (0.5, 0.15), (1.4, 0.9), (1.45, 3.7)]  # half width, below the chin
    outline += [(1.1, 6.0), (0.9, depth)] if depth > 6 else [(1.3, depth)]
    right = [(centre + w * unit, y2 + y * unit) for w, y in outline]
    left = [(centre - w * unit, y2 + y * unit) for w, y in reversed(outline)]
    cv2.fillPoly(body, [np.rint(right + left).astype(np.int32)], 1)
    return body


def _skin(face: Rectangle) -> tuple[float, float, float, float]:
    """Centre and half axes of the skin inside a face's box."""
    x1, y1, x2, y2 = face
    return (x1 + x2) / 2, (y1 + y2) / 2, 0.42 * (x2 - x1), 0.46 * (y2 - y1)
