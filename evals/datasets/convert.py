"""Data sets from one form into another: CoNLL, JSONL, labelme, COCO, Label Studio.

Between them stands the JSONL row of `evals/datasets/jsonl.py`, so that each form needs one reader and one writer. Forms
made for regions (labelme, COCO, Label Studio) carry the post's text and entities in a key of their own, `namepin`, and
each region names its entity: boxes that were moved in such a tool are read back. Masks travel in that key; labelme
shows them, too, as polygons. CoNLL has no place for them. Pictures are not copied.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from namepin.evals.datasets import READERS
from namepin.evals.datasets.gold import GoldPost
from namepin.tools.errors import NamepinError
from namepin.tools.images.polygons import polygons_of
from namepin.tools.labels import COARSE4, COARSE8_TO_4, FINE51, FINE_TO_COARSE8
from namepin.tools.types import Mask

Row = dict[str, Any]


def convert(source: Path, name: str, split: str, target: Path, form: str) -> int:
    """Write one split in another form.

    Args:
        source: the data set's folder.
        name: its form: a data set of `READERS`, or one of `FORMS`.
        split: which split.
        target: the folder to write into; made if missing.
        form: one of `WRITERS`.

    Returns:
        How many posts were written.

    Raises:
        NamepinError: E130 to E139 for the source, E500 where the target cannot be written.
    """
    rows = list(read_rows(source, name, split))
    try:
        target.mkdir(parents=True, exist_ok=True)
        WRITERS[form](rows, target, split)
    except OSError as error:
        raise NamepinError("E500", f"cannot write into {str(target)!r}: {error.strerror}") from error
    return len(rows)


def read_rows(source: Path, name: str, split: str) -> Iterator[Row]:
    """A split's posts as JSONL rows.

    Raises:
        NamepinError: E130 when it is not there, E131 when it cannot be understood.
    """
    if name in READERS:
        yield from map(row_of, READERS[name](source, split).usable().posts)
        return
    try:
        yield from FORMS[name](source, split)
    except FileNotFoundError as error:
        raise NamepinError("E130", f"no {name} file {error.filename!r}", mend="check the folder and --split") from error
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise NamepinError("E131", f"cannot be read as {name}: {error!r}", where=str(source)) from error


def row_of(gold: GoldPost) -> Row:
    """A gold post as a JSONL row; FMNERG's 8 types become the 4, beside the fine label that holds them."""
    entities = []
    for entity in gold.entities:
        row: Row = {"start": entity.span[0], "end": entity.span[1], "token_span": list(entity.token_span)}
        row["label"] = COARSE8_TO_4.get(entity.label, entity.label)
        if entity.fine:
            row["fine_label"] = entity.fine
        if entity.boxes is not None:
            row["boxes"] = [list(box) for box in entity.boxes]
        if entity.masks is not None:
            row["masks"] = [mask.model_dump(mode="json") for mask in entity.masks]
        entities.append(row)
    image = Path(gold.post.image).name if gold.post.image else None
    post: Row = {"id": gold.post.id, "text": gold.post.text, "image": image, "entities": entities}
    if gold.post.tokens:
        post["tokens"] = list(gold.post.tokens)
    if gold.size:
        post["size"] = list(gold.size)
    return post


def write_jsonl(rows: Iterable[Row], target: Path, split: str) -> None:
    """`SPLIT.jsonl`."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (target / f"{split}.jsonl").write_text("".join(lines), "utf-8")


def write_conll(rows: Iterable[Row], target: Path, split: str) -> None:
    """`txt/SPLIT.txt` with the 4 types, `txt_fine/SPLIT.txt` where all entities have fine types, and `xml/`.

    Raises:
        NamepinError: E131 when an entity does not begin and end with a token.
    """
    rows = list(rows)
    fine = all(entity.get("fine_label") for row in rows for entity in row["entities"])
    columns = {"txt": ["label"]} | ({"txt_fine": ["coarse8", "fine_label"]} if fine else {})
    for folder, keys in columns.items():
        (target / folder).mkdir(exist_ok=True)
        (target / folder / f"{split}.txt").write_text("\n".join(_conll(row, keys) for row in rows), "utf-8")
    for row in rows:
        boxes = [(text, box) for text, entity in _named(row) for box in entity.get("boxes", ())]
        if any("boxes" in entity for entity in row["entities"]):
            (target / "xml").mkdir(exist_ok=True)
        if boxes:
            (target / "xml" / f"{row['id']}.xml").write_bytes(_voc(row, boxes))


def _conll(row: Row, keys: list[str]) -> str:
    tokens = row.get("tokens") or row["text"].split()
    tags = [["O"] * len(keys) for _ in tokens]
    for entity in row["entities"]:
        first, end = entity.get("token_span", (-1, -1))
        if first < 0 or end < 0:
            raise NamepinError("E131", f"post {row['id']!r}: an entity does not begin and end with a token")
        labels = {**entity, "coarse8": FINE_TO_COARSE8.get(entity.get("fine_label", ""))}
        for i in range(first, end):
            tags[i] = [f"{'B' if i == first else 'I'}-{labels[key]}" for key in keys]
    lines = ["\t".join([token, *tag]) for token, tag in zip(tokens, tags, strict=True)]
    return "\n".join([f"IMGID:{row['id']}", *lines]) + "\n"


def _named(row: Row) -> list[tuple[str, Row]]:
    """Entities by their words, each wording once: mentions of the same words share their regions."""
    return list({row["text"][e["start"] : e["end"]]: e for e in row["entities"]}.items())


def _voc(row: Row, boxes: list[tuple[str, list[float]]]) -> bytes:
    root = Element("annotation")
    SubElement(root, "filename").text = row.get("image") or f"{row['id']}.jpg"
    if row.get("size"):
        size = SubElement(root, "size")
        for side, value in zip(("width", "height"), row["size"], strict=True):
            SubElement(size, side).text = str(value)
    for text, box in boxes:
        item = SubElement(root, "object")
        SubElement(item, "name").text = text
        bounds = SubElement(item, "bndbox")
        for side, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            SubElement(bounds, side).text = f"{value:g}"
    indent(root)
    return bytes(tostring(root, "utf-8"))


def _without_boxes(row: Row) -> Row:
    bare = [{k: v for k, v in entity.items() if k != "boxes"} for entity in row["entities"]]
    return {**row, "entities": bare, "has_boxes": any("boxes" in entity for entity in row["entities"])}


def _with_boxes(row: Row, boxes: Iterable[tuple[int, list[float]]]) -> Row:
    """The row with (entity's number, box) put back; in a data set with boxes, no box is "not in the picture"."""
    row = dict(row)
    if not row.pop("has_boxes"):
        return row
    entities: list[Row] = [{**entity, "boxes": []} for entity in row["entities"]]
    for number, box in boxes:
        entities[number]["boxes"].append(box)
    return {**row, "entities": entities}


def write_labelme(rows: Iterable[Row], target: Path, split: str) -> None:
    """`SPLIT/ID.json`, a rectangle a box, polygons for masks."""
    folder = target / split
    folder.mkdir(exist_ok=True)
    for row in rows:
        width, height = row.get("size") or (None, None)
        shapes = [
            {"label": row["text"][e["start"] : e["end"]], "points": [box[:2], box[2:]], "group_id": number, "flags": {},
             "shape_type": "rectangle"}
            for number, e in enumerate(row["entities"])
            for box in e.get("boxes", ())
        ]  # fmt: skip
        shapes += _polygons(row)
        page = {"version": "5.0.0", "flags": {}, "shapes": shapes, "imagePath": row["image"], "imageData": None}
        page |= {"imageWidth": width, "imageHeight": height, "namepin": _without_boxes(row)}
        (folder / f"{row['id']}.json").write_text(json.dumps(page, ensure_ascii=False, indent=1), "utf-8")


def _polygons(row: Row) -> list[Row]:
    """A shape for every part of every mask; the parts of one mask share a `group_id` that nothing else has."""
    masks = [(e, mask) for e in row["entities"] for mask in e.get("masks", ())]
    first = len(row["entities"])
    return [
        {"label": row["text"][e["start"] : e["end"]], "points": [list(point) for point in polygon], "flags": {},
         "group_id": first + number, "shape_type": "polygon"}
        for number, (e, mask) in enumerate(masks)
        for polygon in polygons_of(Mask.model_validate(mask))
    ]  # fmt: skip


def read_labelme(source: Path, split: str) -> Iterator[Row]:
    """What `write_labelme` wrote; the masks are kept with the row, the polygons are for other programs."""
    if not (source / split).is_dir():
        raise FileNotFoundError(2, "missing", str(source / split))
    for path in sorted((source / split).glob("*.json")):
        page = json.loads(path.read_bytes())
        corners = [(s["group_id"], s["points"]) for s in page["shapes"] if s["shape_type"] == "rectangle"]
        yield _with_boxes(page["namepin"], [(number, _corners(points)) for number, points in corners])


def _corners(points: list[list[float]]) -> list[float]:
    """The box around some points: a rectangle may have been drawn from any corner."""
    xs, ys = zip(*points, strict=True)
    return [min(xs), min(ys), max(xs), max(ys)]


def write_coco(rows: Iterable[Row], target: Path, split: str) -> None:
    """`SPLIT.coco.json`: one image a post, one annotation a box, a category for each type used."""
    names = [*COARSE4, *FINE51]
    numbers = {name: i for i, name in enumerate(names, 1)}
    images: list[Row] = []
    annotations: list[Row] = []
    for image_id, row in enumerate(rows, 1):
        width, height = row.get("size") or (0, 0)
        image = {"id": image_id, "file_name": row["image"] or f"{row['id']}.jpg", "width": width, "height": height}
        images.append({**image, "namepin": _without_boxes(row)})
        for number, entity in enumerate(row["entities"]):
            for x1, y1, x2, y2 in entity.get("boxes", ()):
                kind = numbers[entity.get("fine_label") or entity["label"]]
                shape = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
                belongs = {"id": len(annotations) + 1, "image_id": image_id, "category_id": kind, "entity": number}
                annotations.append({**belongs, **shape})
    categories = [{"id": number, "name": name} for name, number in numbers.items()]
    page = {"images": images, "annotations": annotations, "categories": categories}
    (target / f"{split}.coco.json").write_text(json.dumps(page, ensure_ascii=False), "utf-8")


def read_coco(source: Path, split: str) -> Iterator[Row]:
    """What `write_coco` wrote."""
    page = json.loads((source / f"{split}.coco.json").read_bytes())
    boxes: dict[int, list[tuple[int, list[float]]]] = {}
    for item in page["annotations"]:
        x, y, width, height = item["bbox"]
        boxes.setdefault(item["image_id"], []).append((item["entity"], [x, y, x + width, y + height]))
    for image in page["images"]:
        yield _with_boxes(image["namepin"], boxes.get(image["id"], []))


def write_label_studio(rows: Iterable[Row], target: Path, split: str) -> None:
    """`SPLIT.label-studio.json`: tasks with text spans, boxes in percent, and a relation from each box to its span.

    Raises:
        NamepinError: E131 when a post has boxes but the picture's size is unknown.
    """
    tasks = [
        {"data": {"id": row["id"], "text": row["text"], "image": row["image"], "namepin": _without_boxes(row)},
         "annotations": [{"result": list(_results(row))}]}
        for row in rows
    ]  # fmt: skip
    (target / f"{split}.label-studio.json").write_text(json.dumps(tasks, ensure_ascii=False), "utf-8")


def _results(row: Row) -> Iterator[Row]:
    for number, entity in enumerate(row["entities"]):
        kind = entity.get("fine_label") or entity["label"]
        span = {"start": entity["start"], "end": entity["end"], "labels": [kind]}
        span["text"] = row["text"][entity["start"] : entity["end"]]
        yield {"id": f"e{number}", "type": "labels", "from_name": "label", "to_name": "text", "value": span}
        for part, box in enumerate(entity.get("boxes", ())):
            if not row.get("size"):
                raise NamepinError("E131", f"post {row['id']!r} has boxes, but its picture's size is unknown")
            width, height = row["size"]
            x, y = 100 * box[0] / width, 100 * box[1] / height
            value = {"x": x, "y": y, "width": 100 * box[2] / width - x, "height": 100 * box[3] / height - y}
            yield {"id": f"e{number}b{part}", "type": "rectanglelabels", "from_name": "box", "to_name": "image",
                   "original_width": width, "original_height": height,
                   "value": {**value, "rotation": 0, "rectanglelabels": [kind]}}  # fmt: skip
            yield {"type": "relation", "from_id": f"e{number}b{part}", "to_id": f"e{number}", "direction": "right"}


def read_label_studio(source: Path, split: str) -> Iterator[Row]:
    """What `write_label_studio` wrote; coordinates are rounded to hundredths of a pixel."""
    for task in json.loads((source / f"{split}.label-studio.json").read_bytes()):
        results = task["annotations"][0]["result"]
        entity_of = {r["from_id"]: int(r["to_id"].removeprefix("e")) for r in results if r["type"] == "relation"}
        boxes = []
        for item in results:
            if item["type"] == "rectanglelabels":
                v, width, height = item["value"], item["original_width"] / 100, item["original_height"] / 100
                corners = (
                    v["x"] * width,
                    v["y"] * height,
                    (v["x"] + v["width"]) * width,
                    (v["y"] + v["height"]) * height,
                )
                boxes.append((entity_of[item["id"]], [round(value, 2) for value in corners]))
        yield _with_boxes(task["data"]["namepin"], boxes)


WRITERS: Mapping[str, Callable[[Iterable[Row], Path, str], None]] = MappingProxyType(
    {
        "conll": write_conll,
        "jsonl": write_jsonl,
        "labelme": write_labelme,
        "coco": write_coco,
        "label-studio": write_label_studio,
    }
)
FORMS: Mapping[str, Callable[[Path, str], Iterator[Row]]] = MappingProxyType(
    {"labelme": read_labelme, "coco": read_coco, "label-studio": read_label_studio}
)
"""Forms that are read here, beside the data sets of `READERS`."""
