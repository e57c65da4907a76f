"""The mask gold: labelme files `masks/ID.json`. A region's name is the words of its mention."""

import base64
import binascii
import io
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from namepin.evals.datasets.gold import GoldEntity, GoldPost, Problem
from namepin.evals.datasets.names import file_of_post, name_key, unmatched_names
from namepin.evals.datasets.tool_json import parse_tool_json
from namepin.tools.images.polygons import Pt, mask_of
from namepin.tools.types import Mask

MAX_SHAPES, MAX_PIXELS = 10_000, 2**28
"""Bounds of a labelme file, above what an annotator draws or a picture has."""

DrawnRegion = list[Pt] | Mask
"""A shape as its outline, or as its pixels if labelme stores them."""


def with_masks(gold: GoldPost, folder: Path) -> tuple[GoldPost, list[Problem]]:
    """The post with the masks of `folder/ID.json`; shapes that share a name and a `group_id` are one mask."""
    path = file_of_post(folder, gold.post.id, ".json")
    masks, problems = read_masks(path) if path.is_file() else ({}, [])
    problems += unmatched_names(masks, gold, path, "masks")
    by_name: dict[str, list[Mask]] = defaultdict(list)
    for name, found in masks.items():
        by_name[name_key(name)] += found
    entities: tuple[GoldEntity, ...] = tuple(
        replace(entity, masks=tuple(by_name.get(name_key(entity.text), ()))) for entity in gold.entities
    )
    return replace(gold, entities=entities), problems


def read_masks(path: Path) -> tuple[dict[str, list[Mask]], list[Problem]]:
    """The masks of a labelme file by name (a name may have several), and the problems.

    `region_of` says which shapes are regions; shapes of a name that share a `group_id` are one mask.
    """
    try:
        page = parse_tool_json(path.read_bytes())
        size = picture_size(page)
        shapes = list(page["shapes"])
        if len(shapes) > MAX_SHAPES:
            raise ValueError(f"{len(shapes)} shapes")
    except (ValueError, KeyError, TypeError, OverflowError, OSError) as error:
        what = f"unreadable labelme file, its masks are left out: {error!r}"
        return {}, [Problem("E133", str(path), what, loses="masks")]
    groups: dict[tuple[str, Any], list[DrawnRegion]] = defaultdict(list)
    problems = []
    for number, shape in enumerate(shapes):
        try:
            group = shape.get("group_id")
            region = region_of(shape, size)
            name = " ".join(str(shape["label"]).split())
            groups[name, ("alone", number) if group is None else str(group)].append(region)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            what = f"shape {number} {label_of(shape)!r} is left out: {error}"
            problems.append(Problem("E133", str(path), what, loses="masks"))
    masks: dict[str, list[Mask]] = defaultdict(list)
    for (name, _), regions in groups.items():
        try:
            masks[name].append(join_masks(regions, size))
        except ValueError as error:
            what = f"a region of {name!r} is left out: {error}"
            problems.append(Problem("E133", str(path), what, loses="masks"))
            continue
        if any(leaves(region, size) for region in regions):
            what = f"a region of {name!r} leaves the {size[1]}x{size[0]} picture"
            problems.append(Problem("E133", str(path), what))
    return {name: found for name, found in masks.items() if found}, problems


def label_of(shape: Any) -> str:
    """A shape's name, for messages."""
    return str(shape.get("label", ""))[:80] if isinstance(shape, Mapping) else ""


def picture_size(page: Mapping[str, Any]) -> tuple[int, int]:
    """The (height, width) of a labelme file's picture.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: when it is missing or impossible.
    """
    height, width = int(page["imageHeight"]), int(page["imageWidth"])
    if not (0 < height <= 100_000 and 0 < width <= 100_000 and height * width <= MAX_PIXELS):
        raise ValueError(f"a picture of {width} x {height} pixels")
    return height, width


def region_of(shape: Mapping[str, Any], size: tuple[int, int]) -> DrawnRegion:
    """A labelme shape as a region.

    Polygons, rectangles of two or four corners, rotated rectangles, circles and the masks of labelme's AI tools are
    regions. Points, lines and line strips are not.

    Args:
        shape: the shape as JSON.
        size: (height, width) of the picture.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: when it is not a region.
    """
    kind = str(shape.get("shape_type") or "polygon")
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if not all(math.isfinite(value) for point in points for value in point):
        raise ValueError("a point is not a finite number")
    if kind == "mask":
        return _bitmap(shape, points, size)
    if kind == "polygon" and len(points) < 3:
        raise ValueError("a polygon has fewer than three points")
    if kind in _CORNERED and len(points) >= 3:
        return points
    if kind == "rectangle" and len(points) == 2:
        (x1, y1), (x2, y2) = points
        return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    if kind == "circle" and len(points) == 2:
        radius = math.dist(points[0], points[1])
        return ellipse(points[0], (radius, radius))
    raise ValueError(f"a {kind} of {len(points)} points encloses no region")


_CORNERED = ("polygon", "rectangle", "rotation", "oriented_rectangle", "rotated_rect", "quadrilateral")
"""Shapes that are given by their corners. X-AnyLabeling and newer labelme write the rotated ones."""


def ellipse(centre: Pt, radii: Pt, degrees: float = 0.0) -> list[Pt]:
    """The outline of an ellipse, turned clockwise by some degrees, as a polygon of 64 corners."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    outline = []
    for i in range(64):
        x, y = radii[0] * math.cos(math.pi * i / 32), radii[1] * math.sin(math.pi * i / 32)
        outline.append((centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos))
    return outline


def _bitmap(shape: Mapping[str, Any], points: Sequence[Pt], size: tuple[int, int]) -> Mask:
    """The mask of an AI tool: a PNG whose first pixel lies at the first of two corners."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(base64.b64decode(shape["mask"], validate=True)), formats=("PNG",)) as picture:
            if picture.width > size[1] or picture.height > size[0]:
                raise ValueError(f"its mask of {picture.width} x {picture.height} pixels is larger than the picture")
            part = np.asarray(picture.convert("L")) > 0
    except (binascii.Error, UnidentifiedImageError, OSError, SyntaxError, KeyError, TypeError) as error:
        raise ValueError(f"its mask is not a PNG in base64: {error}") from error
    if not points:
        raise ValueError("its mask has no position")
    left, top = (round(min(values)) for values in zip(*points, strict=True))
    array = np.zeros(size, dtype=bool)
    rows, columns = slice(max(top, 0), top + part.shape[0]), slice(max(left, 0), left + part.shape[1])
    target = array[rows, columns]
    target |= part[max(-top, 0) :, max(-left, 0) :][: target.shape[0], : target.shape[1]]
    return Mask.from_array(array)


def join_masks(regions: Sequence[DrawnRegion], size: tuple[int, int]) -> Mask:
    """One mask of several regions.

    Raises:
        ValueError: when they cover no pixel, or an outline is invalid.
    """
    outlines = [region for region in regions if not isinstance(region, Mask)]
    parts = [region.to_array() for region in regions if isinstance(region, Mask)]
    if outlines:
        parts.append(mask_of(outlines, size).to_array())
    array = np.logical_or.reduce(parts) if parts else np.zeros(size, dtype=bool)
    if not array.any():
        raise ValueError("it encloses no pixel of the picture")
    return Mask.from_array(array)


def box_around(region: DrawnRegion) -> list[float]:
    """The smallest box around a region.

    Raises:
        ValueError: when the region is empty.
    """
    if isinstance(region, Mask):
        box = region.tight_box()
        if box is None:
            raise ValueError("it encloses no pixel of the picture")
        return list(box)
    xs, ys = zip(*region, strict=True)
    if not (min(xs) < max(xs) and min(ys) < max(ys)):
        raise ValueError("it encloses no region")
    return [min(xs), min(ys), max(xs), max(ys)]


def leaves(region: DrawnRegion, size: tuple[int, int]) -> bool:
    """Whether a region's outline leaves the picture of (height, width)."""
    if isinstance(region, Mask):
        return False
    return any(not (0 <= x <= size[1] and 0 <= y <= size[0]) for x, y in region)
