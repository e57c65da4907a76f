"""The visual gold: Pascal VOC boxes (`xml/ID.xml`) and labelme polygons (`masks/ID.json`), found by exact name."""

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from namepin.evals.datasets.gold import GoldEntity, GoldPost, Problem, RawBox
from namepin.tools.images.polygons import Pt, mask_of
from namepin.tools.types import Mask


def with_boxes(gold: GoldPost, folder: Path) -> tuple[GoldPost, list[Problem]]:
    """The post with the boxes of `folder/ID.xml`; without that file none of its entities is in the picture.

    A mention's boxes are those whose `name` equals its tokens joined by one space, so two mentions of the same words
    share them, as the releases mean it. An unusable box and a name that no mention has are problems; both are left out.
    """
    path = folder / f"{gold.post.id}.xml"
    size, boxes, problems = read_boxes(path) if path.is_file() else (None, {}, [])
    problems += _unmatched(boxes, gold, path, "boxes")
    entities = tuple(replace(entity, boxes=tuple(boxes.get(entity.text, ()))) for entity in gold.entities)
    return replace(gold, entities=entities, size=size), problems


def read_boxes(path: Path) -> tuple[tuple[int, int] | None, dict[str, list[RawBox]], list[Problem]]:
    """The picture's (width, height), its boxes by name, and the problems. Entities and DTDs in the XML are refused."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:  # LookupError: the encoding
        what = f"unreadable XML, its entities count as not in the picture: {error}"
        return None, {}, [Problem("E133", str(path), what, loses="boxes")]
    width, height = (_number(root, f"size/{side}") for side in ("width", "height"))
    size = (int(width), int(height)) if 1 <= width < math.inf and 1 <= height < math.inf else None
    boxes: dict[str, list[RawBox]] = defaultdict(list)
    problems = []
    for item in root.findall("object"):
        name = item.findtext("name") or ""
        bounds = item.find("bndbox")
        if bounds is None:
            continue  # an entity that the annotators marked as not in the picture
        box = tuple(_number(bounds, side) for side in ("xmin", "ymin", "xmax", "ymax"))
        if not all(map(math.isfinite, box)) or not (box[0] < box[2] and box[1] < box[3]):
            what = f"box {box} of {name!r} is empty, inverted or not a number"
            problems.append(Problem("E133", str(path), what, loses="boxes"))
            continue
        if size and (min(box) < 0 or box[2] > size[0] or box[3] > size[1]):
            problems.append(Problem("E133", str(path), f"box {box} of {name!r} leaves the {size[0]}x{size[1]} picture"))
        boxes[name].append((box[0], box[1], box[2], box[3]))
    return size, dict(boxes), problems


def _number(element: Element, tag: str) -> float:
    try:
        return float(element.findtext(tag) or "nan")
    except ValueError:
        return math.nan


def with_masks(gold: GoldPost, folder: Path) -> tuple[GoldPost, list[Problem]]:
    """The post with the masks of `folder/ID.json`; polygons that share a name and a `group_id` are one mask."""
    path = folder / f"{gold.post.id}.json"
    masks, problems = read_masks(path) if path.is_file() else ({}, [])
    problems += _unmatched(masks, gold, path, "masks")
    entities: tuple[GoldEntity, ...] = tuple(
        replace(entity, masks=tuple(masks.get(entity.text, ()))) for entity in gold.entities
    )
    return replace(gold, entities=entities), problems


MAX_SHAPES, MAX_PIXELS = 10_000, 2**28
"""Of a labelme file: what no annotator draws, and what no picture here has."""


def read_masks(path: Path) -> tuple[dict[str, list[Mask]], list[Problem]]:
    """The masks of a labelme file by name, several a name where it has several, and the problems.

    Polygons, rectangles and circles are regions; shapes of a name that share a `group_id` are one mask.
    """
    try:
        data = json.loads(path.read_bytes())
        height, width = int(data["imageHeight"]), int(data["imageWidth"])
        shapes = list(data["shapes"])
        if not (0 < height <= 100_000 and 0 < width <= 100_000 and height * width <= MAX_PIXELS):
            raise ValueError(f"a picture of {width} x {height} pixels")
        if len(shapes) > MAX_SHAPES:
            raise ValueError(f"{len(shapes)} shapes")
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, OSError) as error:
        what = f"unreadable labelme file, its masks are left out: {error!r}"
        return {}, [Problem("E133", str(path), what, loses="masks")]
    groups: dict[tuple[str, Any], list[list[Pt]]] = defaultdict(list)
    problems = []
    for number, shape in enumerate(shapes):
        try:
            group = shape.get("group_id")
            outline = _outline(shape)
            groups[str(shape["label"]), ("alone", number) if group is None else str(group)].append(outline)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            problems.append(Problem("E133", str(path), f"shape {number} is left out: {error}", loses="masks"))
    masks: dict[str, list[Mask]] = defaultdict(list)
    for (name, _), polygons in groups.items():
        try:
            mask = mask_of(polygons, (height, width))
        except ValueError as error:
            what = f"a region of {name!r} is left out: {error}"
            problems.append(Problem("E133", str(path), what, loses="masks"))
            continue
        masks[name].append(mask)
        if any(not (0 <= x <= width and 0 <= y <= height) for polygon in polygons for x, y in polygon):
            problems.append(Problem("E133", str(path), f"a region of {name!r} leaves the {width}x{height} picture"))
    return dict(masks), problems


def _outline(shape: Mapping[str, Any]) -> list[Pt]:
    """A shape as a polygon."""
    kind = shape.get("shape_type") or "polygon"
    points = [(float(x), float(y)) for x, y in shape["points"]]
    if kind == "polygon":
        if len(points) < 3:
            raise ValueError("a polygon has fewer than three points")
        return points
    if kind in ("rectangle", "circle") and len(points) == 2:
        (x1, y1), (x2, y2) = points
        if kind == "rectangle":
            return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
        radius = math.dist(points[0], points[1])
        angles = [2 * math.pi * i / 64 for i in range(64)]
        return [(x1 + radius * math.cos(angle), y1 + radius * math.sin(angle)) for angle in angles]
    raise ValueError(f"a {kind} of {len(points)} points encloses no region")


def _unmatched(
    names: Mapping[str, object], gold: GoldPost, path: Path, kind: Literal["boxes", "masks"]
) -> list[Problem]:
    mentions = {entity.text for entity in gold.entities}
    return [
        Problem("E133", str(path), f"no mention of {gold.where} is named {name!r}; its region is left out", loses=kind)
        for name in names
        if name not in mentions
    ]
