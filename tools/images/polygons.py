"""Masks as polygons and back, as in labelme and COCO: outlines run along the pixels' edges, holes are cut in.

A polygon is a list of (x, y) points in pixels of the picture. Points are corners of pixels and not their centres, so
the one pixel at (0, 0) is (0, 0), (1, 0), (1, 1), (0, 1). Neither form has holes, so a hole is joined to its outline by
a slit of zero width.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from namepin.tools.types import Mask

Pt = tuple[float, float]
Polygon = list[Pt]

MAX_POINTS = 100_000
"""Largest number of points per polygon, far above what people draw."""


def mask_of(polygons: Sequence[Sequence[Pt]], size: tuple[int, int]) -> Mask:
    """One mask of one or several polygons, which may overlap.

    Points beyond the picture are moved to its border.

    Args:
        polygons: at least one, each with three points or more.
        size: (height, width) of the picture.

    Raises:
        ValueError: no polygon, fewer than three points, too many, or a coordinate that is not a number.
    """
    from pycocotools import mask as coco

    height, width = size
    flat = []
    for polygon in polygons:
        if not 3 <= len(polygon) <= MAX_POINTS:
            raise ValueError(f"a polygon has {len(polygon)} points, not 3 to {MAX_POINTS}")
        if not all(math.isfinite(value) for point in polygon for value in point):
            raise ValueError("a polygon has a coordinate that is not a number")
        flat.append([value for x, y in polygon for value in (min(max(x, 0), width), min(max(y, 0), height))])
    if not flat:
        raise ValueError("there is no polygon")
    rle = coco.merge(coco.frPyObjects(flat, height, width))
    return Mask(size=size, counts=rle["counts"].decode("ascii"))


def polygons_of(mask: Mask) -> list[Polygon]:
    """The outlines of a mask's parts, each with its holes cut in; none for an empty mask."""
    outer: list[Polygon] = []
    holes: list[Polygon] = []
    for loop in _loops(mask.to_array()):
        (outer if _area(loop) > 0 else holes).append(loop)
    for hole in sorted(holes, key=lambda loop: min(loop)):
        home = min((o for o in outer if _contains(o, hole)), key=_area)
        outer[outer.index(home)] = _slit(home, hole)
    return outer


def _loops(array: "np.ndarray[Any, np.dtype[np.bool_]]") -> list[Polygon]:
    """Closed paths along the pixels' edges as corners only; the mask lies on the right (y points down)."""
    padded = np.pad(array, 1)
    edges: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    inside, above, left = padded[1:-1, 1:-1], padded[:-2, 1:-1], padded[1:-1, :-2]
    below, right = padded[2:, 1:-1], padded[1:-1, 2:]
    for y, x in np.argwhere(inside & ~above):
        edges[x, y].append((x + 1, y))
    for y, x in np.argwhere(inside & ~right):
        edges[x + 1, y].append((x + 1, y + 1))
    for y, x in np.argwhere(inside & ~below):
        edges[x + 1, y + 1].append((x, y + 1))
    for y, x in np.argwhere(inside & ~left):
        edges[x, y + 1].append((x, y))
    loops = []
    while edges:
        start = next(iter(edges))
        walk, at, heading = [start], start, (0, 0)
        while True:
            ends = edges[at]
            # Turn right where two pixels meet at a corner, so that each part keeps its own outline.
            step = (
                max(ends, key=lambda end: _turn(heading, (end[0] - at[0], end[1] - at[1])))
                if len(ends) > 1
                else ends[0]
            )
            ends.remove(step)
            if not ends:
                del edges[at]
            heading, at = (step[0] - at[0], step[1] - at[1]), step
            if at == start:
                break
            walk.append(at)
        loops.append(_corners(walk))
    return loops


def _turn(before: tuple[int, int], after: tuple[int, int]) -> int:
    return before[0] * after[1] - before[1] * after[0]


def _corners(walk: list[tuple[int, int]]) -> Polygon:
    corners = []
    for i, (x, y) in enumerate(walk):
        (px, py), (nx, ny) = walk[i - 1], walk[(i + 1) % len(walk)]
        if (x - px) * (ny - y) != (y - py) * (nx - x):
            corners.append((float(x), float(y)))
    return corners


def _area(loop: Polygon) -> float:
    """Twice the signed area; positive for an outline, negative for a hole."""
    return sum(x1 * y2 - x2 * y1 for (x1, y1), (x2, y2) in zip(loop, [*loop[1:], loop[0]], strict=True))


def _contains(outer: Polygon, hole: Polygon) -> bool:
    """Whether the hole's first pixel lies inside, by counting crossings of a ray to the left."""
    x, y = min(hole)
    x, y = x + 0.5, y + 0.5
    crossings = 0
    for (x1, y1), (x2, y2) in zip(outer, [*outer[1:], outer[0]], strict=True):
        if (y1 > y) != (y2 > y) and x1 + (y - y1) * (x2 - x1) / (y2 - y1) < x:
            crossings += 1
    return crossings % 2 == 1


def _slit(outer: Polygon, hole: Polygon) -> Polygon:
    """The outline with a detour to the hole's nearest corner, around the hole, and back."""
    i, j = min(
        ((i, j) for i in range(len(outer)) for j in range(len(hole))),
        key=lambda pair: math.dist(outer[pair[0]], hole[pair[1]]),
    )
    return [*outer[: i + 1], *hole[j:], *hole[: j + 1], *outer[i:]]
