"""labelme: `SPLIT/ID.json`, a rectangle for each box, polygons for each mask, the post in the key `namepin`.

A shape belongs to the mention that its label names. Its `group_id` distinguishes mentions of one name: modulo the
number of the post's entities, it is the entity's number. The parts of one mask share a `group_id`.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from namepin.evals.datasets.annotation_tools.drawn import DrawnPost, posts_of, row_for_tool, words_of
from namepin.evals.datasets.gold import Dataset
from namepin.evals.datasets.losses import Losses
from namepin.evals.datasets.masks import DrawnRegion, label_of, picture_size, region_of
from namepin.evals.datasets.names import name_key
from namepin.evals.datasets.rows import PostRow, SplitCollector
from namepin.evals.datasets.tool_json import parse_tool_json
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write, file_name
from namepin.tools.images.polygons import polygons_of
from namepin.tools.jsonl import dump_json, reason
from namepin.tools.types import Mask


def write(rows: Iterable[PostRow], target: Path, split: str, losses: Losses) -> None:
    """Write a split."""
    folder = target / split
    folder.mkdir(exist_ok=True)
    written = set()
    for row in rows:
        size = row.get("size") or next(
            (mask["size"][::-1] for entity in row["entities"] for mask in entity.get("masks", ())), (None, None)
        )
        page: dict[str, Any] = {"version": "5.0.0", "flags": {}, "shapes": list(_shapes(row))}
        page["imagePath"] = _image_path(row["image"])
        page |= {"imageData": None, "imageWidth": size[0], "imageHeight": size[1]}
        name = file_name(row["id"], ".json")
        for mask in (mask for entity in row["entities"] for mask in entity.get("masks", ())):
            if not polygons_of(Mask.model_validate(mask)):
                losses.count_loss(row["id"], "masks without a pixel")
        atomic_write(folder / name, dump_json({**page, "namepin": row_for_tool(row, "boxes")}, indent=1))
        written.add(name)
    for path in sorted(folder.glob("*.json")):
        if path.name not in written:
            losses.count_change(path.name, f"older files of {folder}, which are also read as posts of the split")


def _image_path(image: str | None) -> str:
    """The picture's path relative to the file's folder."""
    if not image:
        return ""
    return image if Path(image).is_absolute() else f"../{image}"


def _shapes(row: PostRow) -> Iterator[dict[str, Any]]:
    number_of_entities = len(row["entities"])
    for number, entity in enumerate(row["entities"]):
        shape = {"label": words_of(row, entity), "flags": {}}
        for box in entity.get("boxes", ()):
            yield {**shape, "points": [box[:2], box[2:]], "group_id": number, "shape_type": "rectangle"}
        for k, mask in enumerate(entity.get("masks", ()), 1):
            for polygon in polygons_of(Mask.model_validate(mask)):
                points = [list(point) for point in polygon]
                group = number_of_entities * k + number
                yield {**shape, "points": points, "group_id": group, "shape_type": "polygon"}


def read(root: Path, split: str) -> Dataset:
    """One split: every `SPLIT/*.json` with the key `namepin`; unreadable items are listed by file.

    Raises:
        NamepinError: E130 when there is no such folder.
    """
    folder = root / split
    files = sorted(folder.glob("*.json"))
    if not files:
        raise NamepinError("E130", f"no labelme files in {str(folder)!r}", mend="check the folder and --split")
    collector = SplitCollector("labelme", split, root, fatal=False)
    digest = hashlib.sha256()
    for path in files:
        try:
            data = path.read_bytes()
            digest.update(data)
            collector.add(_post(parse_tool_json(data), root, path, collector))
        except (ValueError, OSError, KeyError, TypeError) as error:
            collector.problem("E131", str(path), f"{reason(error)}; the post is left out")
    return collector.dataset(digest.hexdigest())


posts = partial(posts_of, read)


def _post(page: Any, root: Path, path: Path, collector: SplitCollector) -> Any:
    if not isinstance(page, Mapping) or not isinstance(page.get("shapes"), list):
        raise ValueError("not a labelme file: it has no list of shapes")
    if "namepin" not in page:
        raise ValueError(
            "the tool that saved the file dropped the key `namepin`, which holds the post; convert the posts again "
            "and move the shapes over"
        )
    drawn = DrawnPost.of(page["namepin"], root, str(path), collector)
    _take_size(page, drawn)
    groups: dict[tuple[tuple[int, ...], Any], list[tuple[DrawnRegion, str]]] = defaultdict(list)
    for number, shape in enumerate(page["shapes"]):
        name = f"shape {number} {label_of(shape)!r}"
        try:
            region = region_of(shape, drawn.gold.size[::-1] if drawn.gold.size else (1, 1))
            group = shape.get("group_id")
            numbers = _entities(drawn, str(shape["label"]), group)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            drawn.note_loss(f"{name} cannot be read: {reason(error)}")
            continue
        if not numbers:
            drawn.note_loss(f"{name}: no mention of the post has this name")
        elif _is_upright(region, shape):
            xs, ys = zip(*region, strict=True)
            drawn.draw_box(numbers, [min(xs), min(ys), max(xs), max(ys)], name)
        else:
            groups[tuple(numbers), ("alone", number) if group is None else str(group)].append((region, name))
    for (found, group), regions in groups.items():
        mask = _original_mask(drawn, found, group, [region for region, _ in regions])
        if mask:
            drawn.draw_mask(found, mask)
        else:
            drawn.draw_region(found, [region for region, _ in regions], regions[0][1])
    return drawn.gold_post()


def _take_size(page: Mapping[str, Any], drawn: DrawnPost) -> None:
    """The picture's size in labelme, which the shapes refer to."""
    try:
        height, width = picture_size(page)
    except (ValueError, KeyError, TypeError, OverflowError):
        return
    if drawn.gold.size and drawn.gold.size != (width, height):
        was = "x".join(map(str, drawn.gold.size))
        drawn.note_change(f"the picture was {was} and is {width}x{height} here; the new size is read")
    drawn.gold = replace(drawn.gold, size=(width, height))


def _entities(drawn: DrawnPost, label: str, group: Any) -> list[int]:
    """The numbers of the entities that a shape belongs to."""
    entities = drawn.gold.entities
    named = [i for i, entity in enumerate(entities) if name_key(entity.text) == name_key(label)]
    if type(group) is int and entities and group % len(entities) in named:
        return [group % len(entities)]
    if len(named) > 1:
        drawn.note_change(
            f"{len(named)} mentions are named {name_key(label)!r}; a shape without group_id belongs to each"
        )
    return named


def _is_upright(region: DrawnRegion, shape: Mapping[str, Any]) -> bool:
    if shape.get("shape_type") != "rectangle" or isinstance(region, Mask):
        return False
    return len({x for x, _ in region}) <= 2 and len({y for _, y in region}) <= 2


def _original_mask(drawn: DrawnPost, numbers: Sequence[int], group: Any, regions: Sequence[DrawnRegion]) -> Mask | None:
    """The mask in the post's row with these outlines, if they are unchanged; outlines do not describe holes exactly."""
    if len(numbers) != 1 or not isinstance(group, str) or not group.isdecimal():
        return None
    masks = drawn.gold.entities[numbers[0]].masks or ()
    k = math.floor(int(group) / len(drawn.gold.entities))
    if not 1 <= k <= len(masks) or any(isinstance(region, Mask) for region in regions):
        return None
    return masks[k - 1] if sorted(map(list, regions)) == sorted(polygons_of(masks[k - 1])) else None
