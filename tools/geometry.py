"""Boxes, points and masks: overlap, and clipping to a picture.

Boxes are `(x1, y1, x2, y2)` in pixels of the upright picture, x2 and y2 exclusive; sizes are `(width, height)`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from namepin.tools.types import Mask, Point

Rectangle = tuple[float, float, float, float]
"""An unchecked box: it may be empty, inverted or outside the picture."""

Region = NDArray[np.bool_]
"""A boolean mask: (height, width)."""

Size = tuple[int, int]


def box_area(box: Rectangle) -> float:
    """Area in square pixels of a box that is not inverted."""
    return (box[2] - box[0]) * (box[3] - box[1])


def shared_area(a: Rectangle, b: Rectangle) -> float:
    """Area in square pixels of the intersection of two boxes."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def box_iou(a: Rectangle, b: Rectangle) -> float:
    """Intersection over union of two boxes, 0 to 1; 0 where one is empty. Sides are x2 - x1, without "+ 1"."""
    both = shared_area(a, b)
    return both / (box_area(a) + box_area(b) - both) if both else 0.0


def mask_iou(a: Mask, b: Mask) -> float:
    """Intersection over union of two masks in pixels; 0 for masks of different sizes."""
    from pycocotools import mask as coco

    if a.size != b.size:
        return 0.0
    first, second = ({"size": list(m.size), "counts": m.counts.encode("ascii")} for m in (a, b))
    return float(coco.iou([first], [second], [0])[0, 0])


def region_iou(a: "Region | np.ndarray[Any, Any]", b: "Region | np.ndarray[Any, Any]") -> float:
    """Intersection over union of two boolean arrays of one shape; 0 where both are empty."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 0.0


def clip_box(box: Rectangle, size: Size) -> Rectangle | None:
    """The part of a box inside a picture; None where there is none, or the box is inverted."""
    x1, x2 = (min(max(x, 0.0), float(size[0])) for x in box[::2])
    y1, y2 = (min(max(y, 0.0), float(size[1])) for y in box[1::2])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def clip_point(point: Point, size: Size) -> Point:
    """The point itself when it lies inside the picture, else the nearest pixel."""
    return min(max(point[0], 0), size[0] - 1), min(max(point[1], 0), size[1] - 1)


def holds_point(box: Rectangle, point: tuple[float, float]) -> bool:
    """Whether a point lies in a box."""
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]


def inside_picture(box: Rectangle, size: Size, tolerance: float = 0.0) -> bool:
    """Whether a box lies inside the picture, or leaves it by at most `tolerance` pixels."""
    return min(box) >= -tolerance and box[2] <= size[0] + tolerance and box[3] <= size[1] + tolerance
