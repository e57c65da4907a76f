"""The box gold: Pascal VOC files `xml/ID.xml`. A box's name is the words of its mention."""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException, ElementTree

from namepin.evals.datasets.gold import GoldPost, Problem
from namepin.evals.datasets.names import file_of_post, name_key, unmatched_names
from namepin.tools.geometry import Rectangle


def with_boxes(gold: GoldPost, folder: Path) -> tuple[GoldPost, list[Problem]]:
    """The post with the boxes of `folder/ID.xml`; without that file, no entity is in the picture.

    A mention's boxes are the ones whose `name` equals its tokens joined by one space. Two mentions of the same words
    share them, as intended by the releases. An unusable box, and a name without a mention, are problems and are left
    out.
    """
    path = file_of_post(folder, gold.post.id, ".xml")
    size, boxes, problems = read_boxes(path) if path.is_file() else (None, {}, [])
    problems += unmatched_names(boxes, gold, path, "boxes")
    entities = tuple(replace(entity, boxes=tuple(boxes.get(name_key(entity.text), ()))) for entity in gold.entities)
    return replace(gold, entities=entities, size=size), problems


def read_boxes(path: Path) -> tuple[tuple[int, int] | None, dict[str, list[Rectangle]], list[Problem]]:
    """The picture's (width, height), its boxes by name, and the problems. Entities and DTDs in the XML are refused."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:  # LookupError: the encoding
        what = f"unreadable XML, its entities count as not in the picture: {error}"
        return None, {}, [Problem("E133", str(path), what, loses="boxes")]
    if root.tag != "annotation":
        what = f"not Pascal VOC, its outermost element is <{root.tag}>; its entities count as not in the picture"
        if root.tag == "annotations":
            what += ". CVAT can export Pascal VOC 1.1"
        return None, {}, [Problem("E133", str(path), what, loses="boxes")]
    width, height = (_number(root, f"size/{side}") for side in ("width", "height"))
    size = (int(width), int(height)) if 1 <= width < math.inf and 1 <= height < math.inf else None
    boxes: dict[str, list[Rectangle]] = defaultdict(list)
    problems = []
    for item in root.findall("object"):
        name = name_key(item.findtext("name") or "")
        if _is_deleted(item):
            continue
        for box, degrees in _boxes(item):  # none: an entity that the annotators marked as not in the picture
            if degrees:
                what = f"a box of {name!r} is turned by {degrees:g} degrees; the upright box around it is read"
                problems.append(Problem("W133", str(path), what))
            x1, y1, x2, y2 = min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])
            if not all(map(math.isfinite, box)) or not (x1 < x2 and y1 < y2):
                what = f"box {box} of {name!r} is empty or not a number; it is left out"
                problems.append(Problem("E133", str(path), what, loses="boxes"))
                continue
            if (x1, y1, x2, y2) != box:
                what = f"box {box} of {name!r} is inverted; its corners are exchanged"
                problems.append(Problem("W133", str(path), what))
            if size and (min(box) < 0 or x2 > size[0] or y2 > size[1]):
                what = f"box {box} of {name!r} leaves the {size[0]}x{size[1]} picture"
                problems.append(Problem("E133", str(path), what))
            boxes[name].append((x1, y1, x2, y2))
    return size, dict(boxes), problems


def _is_deleted(item: Element) -> bool:
    """Whether an annotator removed the object: LabelMe's XML keeps it, with a mark."""
    return (item.findtext("deleted") or "").strip() in ("1", "true", "yes")


def _boxes(item: Element) -> Iterator[tuple[Rectangle, float]]:
    """The boxes of an object, unchecked: its corners, else the box around a rotated box or a polygon.

    With each box, the degrees by which it was turned before the upright box around it was taken.
    """
    bounds, degrees = item.findall("bndbox"), _rotation(item)
    for corners in bounds:
        x1, y1, x2, y2 = (_number(corners, side) for side in ("xmin", "ymin", "xmax", "ymax"))
        box = (x1, y1, x2, y2)
        yield (
            (_around((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, math.radians(degrees)) if degrees else box),
            degrees,
        )
    if not bounds:
        for rotated in item.findall("robndbox"):  # roLabelImg: centre, sides, radians
            x, y, width, height, angle = (_number(rotated, tag) for tag in ("cx", "cy", "w", "h", "angle"))
            yield _around(x, y, width, height, angle), math.degrees(angle)
        for polygon in item.findall("polygon"):  # x1, y1, x2, ..., or pt elements
            values: dict[str, list[float]] = {"x": [], "y": []}
            for child in polygon.iter():
                if child.tag[:1] in values and (child.tag[1:].isdigit() or child.tag in values):
                    values[child.tag[0]].append(_value(child.text))
            xs, ys = values["x"] or [math.nan], values["y"] or [math.nan]
            yield (min(xs), min(ys), max(xs), max(ys)), 0.0


def _rotation(item: Element) -> float:
    """Degrees, clockwise about the box's centre: CVAT writes them as an attribute beside the corners."""
    for attribute in item.findall("attributes/attribute"):
        if (attribute.findtext("name") or "").strip() == "rotation":
            degrees = _number(attribute, "value")
            return degrees % 360 if math.isfinite(degrees) else 0.0
    return 0.0


def _around(x: float, y: float, width: float, height: float, angle: float) -> Rectangle:
    """The upright box around one of that centre and those sides, turned by `angle` radians."""
    cos, sin = (abs(f(angle)) if math.isfinite(angle) else math.nan for f in (math.cos, math.sin))
    half_width, half_height = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


def _number(element: Element, tag: str) -> float:
    return _value(element.findtext(tag))


def _value(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
