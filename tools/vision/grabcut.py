"""Pixels and pixel regions of the starter vision: scaling, GrabCut, ellipses and polygons.

Rectangles are `(x1, y1, x2, y2)` in pixels, x2 and y2 exclusive.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from namepin.tools.geometry import Rectangle, Region

Pixels = NDArray[np.uint8]


def resize(image: Image.Image, side: int, *, enlarge: float = 1.0) -> tuple[Pixels, float]:
    """The picture with its long side at `side` pixels, enlarged at most `enlarge` times, and the factor used.

    Returns:
        RGB of shape (height, width, 3), at least one pixel either way; the factor from the picture to it.
    """
    scale = min(side / max(image.size), enlarge)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    if size == image.size:
        return np.asarray(image), 1.0
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)), scale


def object_region(image: Image.Image, box: Rectangle, *, side: int = 320) -> Region:
    """What GrabCut takes for the object in a box; the whole box where it finds none.

    Returns:
        Boolean (height, width) at the picture's full size, nothing outside the box.
    """
    import cv2

    small, scale = resize(image, side)
    x1, y1, x2, y2 = (_px(value) for value in scale_box(box, scale))
    trimap: Pixels = np.full(small.shape[:2], cv2.GC_BGD, np.uint8)
    trimap[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = cv2.GC_PR_FGD
    full = enlarge_region(_grab(small, trimap), image.size)
    left, top, right, bottom = int(box[0]), int(box[1]), int(np.ceil(box[2])), int(np.ceil(box[3]))
    result: Region = np.zeros((image.height, image.width), bool)
    result[top:bottom, left:right] = full[top:bottom, left:right]
    if not result.any():
        result[top:bottom, left:right] = True
    return result


def _grab(small: Pixels, trimap: Pixels) -> Region:
    """Five rounds of GrabCut (Rother et al. 2004); the given labels where there is no background to learn from."""
    import cv2

    background = np.isin(trimap, (cv2.GC_BGD, cv2.GC_PR_BGD))
    if background.sum() < 32 or (~background).sum() < 32:
        return ~background
    cv2.setRNGSeed(0)  # its first colour clusters are drawn at random; the seed is per thread
    labels, models = trimap.copy(), (np.zeros((1, 65)), np.zeros((1, 65)))
    no_rectangle = (0, 0, 1, 1)
    cv2.grabCut(np.ascontiguousarray(small[..., ::-1]), labels, no_rectangle, *models, 5, cv2.GC_INIT_WITH_MASK)
    grown: Region = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    return grown


def enlarge_region(region: Region, size: tuple[int, int]) -> Region:
    """The region at (width, height) `size`, its edge smooth rather than in steps."""
    import cv2

    shades = cv2.resize(region.astype(np.uint8) * np.uint8(255), size, interpolation=cv2.INTER_LINEAR)
    result: Region = shades >= 128
    return result


def polygon_region(size: tuple[int, int], polygons: Sequence[Sequence[tuple[float, float]]]) -> Region:
    """Boolean (height, width) of the pixels inside any of the polygons; `size` is (width, height)."""
    import cv2

    canvas = np.zeros((size[1], size[0]), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], 1)
    result: Region = canvas.astype(bool)
    return result


def fill_ellipse(region: Region, x: float, y: float, half_width: float, half_height: float) -> None:
    """Set the pixels of an upright ellipse in place; those outside the region are left out."""
    half_width, half_height = max(half_width, 0.5), max(half_height, 0.5)
    rows = slice(_px(y - half_height - 1), _px(y + half_height + 1))
    columns = slice(_px(x - half_width - 1), _px(x + half_width + 1))
    part = region[rows, columns]
    ys, xs = np.ogrid[rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]]
    part |= ((xs + 0.5 - x) / half_width) ** 2 + ((ys + 0.5 - y) / half_height) ** 2 <= 1


def scale_box(box: Rectangle, factor: float) -> Rectangle:
    """The box in pixels of a picture that is `factor` times as large."""
    return box[0] * factor, box[1] * factor, box[2] * factor, box[3] * factor


def _px(value: float) -> int:
    """A slice bound: never negative, because Python would count it from the end."""
    return max(0, round(value))
