"""COCO: `SPLIT.coco.json`, one image per post, one annotation per box and per mask, a category per type.

An image carries its post in the key `namepin`, an annotation the number of its entity in the key `entity`.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from namepin.evals.datasets.annotation_tools.drawn import DrawnPost, posts_of, row_for_tool
from namepin.evals.datasets.conll import split_file
from namepin.evals.datasets.gold import Dataset
from namepin.evals.datasets.losses import Losses
from namepin.evals.datasets.masks import DrawnRegion
from namepin.evals.datasets.rows import PostRow, SplitCollector
from namepin.evals.datasets.tool_json import finite_numbers, parse_tool_json
from namepin.evals.datasets.type_names import coarse_type
from namepin.tools.files import atomic_write
from namepin.tools.jsonl import dump_json, reason
from namepin.tools.labels import COARSE4, FINE51
from namepin.tools.types import Mask


def write(rows: Iterable[PostRow], target: Path, split: str, losses: Losses) -> None:
    """Write a split; this form loses nothing."""
    categories = {name: number for number, name in enumerate([*COARSE4, *FINE51], 1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, row in enumerate(rows, 1):
        width, height = row.get("size") or (0, 0)
        image = {"id": image_id, "file_name": row["image"] or f"{row['id']}.jpg", "width": width, "height": height}
        images.append({**image, "namepin": row_for_tool(row, "boxes", "masks")})
        for number, entity in enumerate(row["entities"]):
            category = categories.get(entity.get("fine_label", ""), categories[entity["label"]])
            for shape in _shapes(entity):
                belongs = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "entity": number}
                annotations.append({**belongs, **shape})
    page = {"images": images, "annotations": annotations}
    page["categories"] = [{"id": number, "name": name} for name, number in categories.items()]
    atomic_write(target / f"{split}.coco.json", dump_json(page))


def _shapes(entity: PostRow) -> Iterable[dict[str, Any]]:
    for x1, y1, x2, y2 in entity.get("boxes", ()):
        yield {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
    for data in entity.get("masks", ()):
        mask = Mask.model_validate(data)
        x1, y1, x2, y2 = mask.tight_box() or (0, 0, 0, 0)
        shape = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.to_array().sum()), "iscrowd": 1}
        yield {**shape, "segmentation": mask.model_dump(mode="json"), "region": "mask"}


def read(root: Path, split: str) -> Dataset:
    """One split; unreadable items are listed by image or annotation.

    Raises:
        NamepinError: E130 when there is no such file.
    """
    path = split_file(root, f"{split}.coco.json")
    data = path.read_bytes()
    collector = SplitCollector("coco", split, root, fatal=False)
    try:
        page = parse_tool_json(data)
        if not isinstance(page, Mapping) or not isinstance(page.get("images"), list):
            raise ValueError("not a COCO file: it has no list of images")
        _read_page(page, root, path, collector)
    except ValueError as error:
        collector.problem("E131", str(path), reason(error), fatal=True)
    return collector.dataset(hashlib.sha256(data).hexdigest())


posts = partial(posts_of, read)


def _read_page(page: Mapping[str, Any], root: Path, path: Path, collector: SplitCollector) -> None:
    images = [image for image in page["images"] if isinstance(image, Mapping)]
    if images and not any("namepin" in image for image in images):
        raise ValueError(
            "the tool that saved the file dropped the keys `namepin` (the post) and `entity` (whose box it is): "
            "copy its `bbox` values into the file that `data convert` wrote, or use labelme or Label Studio, which "
            "keep them"
        )
    categories = {
        _key(item.get("id")): str(item.get("name", ""))
        for item in _list(page, "categories")
        if isinstance(item, Mapping)
    }
    posts: dict[Any, DrawnPost] = {}
    for image in images:
        where = f"{path}, image {image.get('id')} {image.get('file_name', '')!r}"
        if "namepin" not in image:
            what = "the tool that saved the file dropped the key `namepin`, which holds the post; the post is left out"
            collector.problem("E131", where, what)
            continue
        try:
            posts[_key(image.get("id"))] = DrawnPost.of(image["namepin"], root, where, collector)
        except ValueError as error:
            collector.problem("E131", where, f"{reason(error)}; the post is left out")
    for item in _list(page, "annotations"):
        _annotate(item, posts, categories, path, collector)
    for drawn in posts.values():
        collector.add(drawn.gold_post())


def _list(page: Mapping[str, Any], key: str) -> Sequence[Any]:
    value = page.get(key)
    return value if isinstance(value, list) else ()


def _key(value: Any) -> Any:
    """An id for look-up: tools write 1, 1.0 and "1" for the same id."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def _annotate(
    item: Any, posts: Mapping[Any, DrawnPost], categories: Mapping[Any, str], path: Path, collector: SplitCollector
) -> None:
    where = f"{path}, annotation {item.get('id') if isinstance(item, Mapping) else '?'}"
    drawn = posts.get(_key(item.get("image_id"))) if isinstance(item, Mapping) else None
    if drawn is None:
        collector.problem("E133", where, "its image is not read; it is left out", loses="boxes")
        return
    name = f"annotation {item.get('id')}"
    entities = drawn.gold.entities
    number = _key(item.get("entity"))
    if not number.isdecimal() or int(number) >= len(entities):
        what = "lacks the key `entity`, the number of its mention" if "entity" not in item else f"is of entity {number}"
        drawn.note_loss(f"{name} {what}; the post has {len(entities)} mentions")
        return
    entity = entities[int(number)]
    category = categories.get(_key(item.get("category_id")), "")
    if coarse_type(category) not in (None, entity.label):
        drawn.note_change(
            f"{name} is of category {category}, its mention {entity.text!r} {entity.label}; the mention's is used"
        )
    with_box = item.get("region") != "mask" and item.get("bbox") is not None
    try:
        if with_box and not (drawn.has_masks and not drawn.has_boxes and item.get("segmentation")):
            x, y, width, height = finite_numbers(item["bbox"], 4)
            corners = [min(x, x + width), min(y, y + height), max(x, x + width), max(y, y + height)]
            _draw_box(drawn, int(number), corners, _rotation(item), name)
        regions = _segmentation(item.get("segmentation")) if drawn.has_masks or not with_box else []
        if regions:
            drawn.draw_region([int(number)], regions, name)
        elif not with_box:
            raise ValueError("it has no bbox")
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        drawn.note_loss(f"{name} cannot be read: {reason(error)}")


def _rotation(item: Mapping[str, Any]) -> float:
    """Degrees, clockwise about the box's centre: CVAT writes them among an annotation's attributes."""
    attributes = item.get("attributes")
    (degrees,) = finite_numbers([attributes.get("rotation") or 0 if isinstance(attributes, Mapping) else 0], 1)
    return degrees % 360


def _draw_box(drawn: DrawnPost, number: int, corners: Sequence[float], degrees: float, name: str) -> None:
    if not degrees:
        drawn.draw_box([number], corners, name)
        return
    x1, y1, x2, y2 = corners
    x, y, dx, dy = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned: DrawnRegion = [
        (x + across * cos - down * sin, y + across * sin + down * cos)
        for across, down in ((-dx, -dy), (dx, -dy), (dx, dy), (-dx, dy))
    ]
    drawn.draw_around([number], [turned], f"{name}, turned by {degrees:g} degrees,")


def _segmentation(value: Any) -> list[DrawnRegion]:
    """COCO's segmentation as regions: polygons, or run lengths as a string or a list; empty for an empty one.

    Raises:
        ValueError: when it has another form.
    """
    if not value:
        return []
    if isinstance(value, Mapping):
        return [Mask.model_validate(value)]
    if not isinstance(value, list):
        raise ValueError("its segmentation is neither polygons nor run lengths")
    polygons = [part for part in (value if isinstance(value[0], list) else [value]) if part]
    regions: list[DrawnRegion] = []
    for part in polygons:
        numbers = finite_numbers(part, len(part) if isinstance(part, list) else 0)
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(f"its polygon has {len(numbers)} numbers, not pairs of three points or more")
        regions.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return regions
