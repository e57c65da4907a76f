"""Label Studio: `SPLIT.label-studio.json`, tasks with text spans, boxes, brush strokes, and relations to their spans.

A task's spans are its mentions after annotation, including new, retyped and deleted ones. A region belongs to the span
that a relation connects it with. A task holds its post in `data.namepin`; without it, `data.text` is the post.
"""

import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from namepin.evals.datasets.annotation_tools.brush import decode_brush, encode_brush
from namepin.evals.datasets.annotation_tools.drawn import DrawnPost, posts_of, row_for_tool, words_of
from namepin.evals.datasets.conll import split_file
from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.evals.datasets.losses import Losses
from namepin.evals.datasets.masks import DrawnRegion, ellipse
from namepin.evals.datasets.rows import PostRow, SplitCollector
from namepin.evals.datasets.tool_json import finite_numbers, parse_tool_json
from namepin.evals.datasets.type_names import coarse_type, fine_type
from namepin.tools.files import atomic_write
from namepin.tools.images.polygons import Pt
from namepin.tools.jsonl import dump_json, reason
from namepin.tools.types import Mask

Result = Mapping[str, Any]
"""One item of an annotation's `result`."""


def write(rows: Iterable[PostRow], target: Path, split: str, losses: Losses) -> None:
    """Write a split. All boxes are written; they are visible only if the picture's size is known."""
    tasks = []
    for row in rows:
        shown = bool(row.get("size")) or not any(entity.get("boxes") for entity in row["entities"])
        if not shown:
            losses.count_change(
                row["id"], "posts whose boxes are written but not visible, since the picture's size is unknown"
            )
        tool_row = row_for_tool(row, "boxes", "masks") if shown else row
        data = {"id": row["id"], "text": row["text"], "image": row["image"], "namepin": tool_row}
        tasks.append({"data": data, "annotations": [{"result": list(_results(row, shown))}]})
    atomic_write(target / f"{split}.label-studio.json", dump_json(tasks))


def _results(row: PostRow, shown: bool) -> Iterator[dict[str, Any]]:
    for number, entity in enumerate(row["entities"]):
        kind = entity.get("fine_label") or entity["label"]
        span = {"start": entity["start"], "end": entity["end"], "labels": [kind], "text": words_of(row, entity)}
        yield {"id": f"e{number}", "type": "labels", "from_name": "label", "to_name": "text", "value": span}
        for region in _regions(row, entity, f"e{number}", kind) if shown else ():
            yield {**region, "to_name": "image"}
            yield {"type": "relation", "from_id": region["id"], "to_id": f"e{number}", "direction": "right"}


def _regions(row: PostRow, entity: PostRow, name: str, kind: str) -> Iterator[dict[str, Any]]:
    for part, box in enumerate(entity.get("boxes", ())):
        width, height = row["size"]
        x, y = 100 * box[0] / width, 100 * box[1] / height
        value = {"x": x, "y": y, "width": 100 * box[2] / width - x, "height": 100 * box[3] / height - y}
        yield {"id": f"{name}b{part}", "type": "rectanglelabels", "from_name": "box", "original_width": width,
               "original_height": height, "value": {**value, "rotation": 0, "rectanglelabels": [kind]}}  # fmt: skip
    for part, data in enumerate(entity.get("masks", ())):
        mask = Mask.model_validate(data)
        value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [kind]}
        yield {"id": f"{name}m{part}", "type": "brushlabels", "from_name": "mask", "original_width": mask.size[1],
               "original_height": mask.size[0], "value": value}  # fmt: skip


def read(root: Path, split: str) -> Dataset:
    """One split; unreadable items are listed by task. Coordinates are rounded to hundredths of a pixel.

    Raises:
        NamepinError: E130 when there is no such file.
    """
    path = split_file(root, f"{split}.label-studio.json")
    data = path.read_bytes()
    collector = SplitCollector("label-studio", split, root, fatal=False)
    others: Counter[str] = Counter()
    try:
        tasks = parse_tool_json(data)
        tasks = [tasks] if isinstance(tasks, Mapping) else tasks
        if not isinstance(tasks, list):
            raise ValueError("not a Label Studio file: it is not a list of tasks")
    except ValueError as error:
        collector.problem("E131", str(path), reason(error), fatal=True)
        tasks = []
    for number, task in enumerate(tasks, 1):
        where = f"{path}, task {_task_name(task, number)}"
        try:
            post = _post(task, root, where, collector, others)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            collector.problem("E131", where, f"{reason(error)}; the task is left out")
            continue
        if post:
            collector.add(post)
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
        collector.problem("W134", str(path), f"results of other kinds are not read: {kinds}")
    return collector.dataset(hashlib.sha256(data).hexdigest())


posts = partial(posts_of, read)


def _task_name(task: Any, number: int) -> str:
    data = task.get("data") if isinstance(task, Mapping) else None
    post_id = data.get("id") if isinstance(data, Mapping) else None
    name = str(task["id"]) if isinstance(task, Mapping) and "id" in task else f"number {number}"
    return f"{name} (post {post_id!r})" if post_id is not None else name


def _post(task: Any, root: Path, where: str, collector: SplitCollector, others: Counter[str]) -> GoldPost | None:
    """The task's post; None, and a problem, for a task without annotation."""
    if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping):
        raise ValueError("a task without `data`; export the project as JSON, not as JSON-MIN")
    results = _annotation(task, where, collector)
    if results is None:
        return None
    row = _base_row(task, where, collector)
    spans = {str(item.get("id")): item for item in results if "start" in item["value"]}
    regions = {str(item.get("id")): item for item in results if _is_region(item["value"])}
    others.update(
        str(item.get("type")) for item in results
        if item.get("type") != "relation" and str(item.get("id")) not in spans.keys() | regions.keys()
    )  # fmt: skip
    reader = _SpanReader(row, where, collector)
    entities = sorted(
        ((span_id, entity) for span_id, item in spans.items() if (entity := reader.entity(span_id, item))),
        key=lambda pair: (pair[1]["start"], pair[1]["end"]),
    )
    if row["entities"] and not entities:
        collector.problem("W134", where, f"none of the post's {len(row['entities'])} mentions is left")
    drawn = DrawnPost.of({**row, "entities": [entity for _, entity in entities]}, root, where, collector)
    number_of = {span_id: number for number, (span_id, _) in enumerate(entities)}
    owners = _owners(results, regions.keys(), number_of)
    for region_id, item in regions.items():
        name = f"region {region_id} ({item.get('type')})"
        if not owners[region_id]:
            drawn.note_loss(f"{name} has no relation to a mention")
            continue
        try:
            _draw(drawn, sorted(owners[region_id]), item, name)
        except (ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
            drawn.note_loss(f"{name} cannot be read: {reason(error)}")
    return drawn.gold_post()


def _annotation(task: Result, where: str, collector: SplitCollector) -> list[Result] | None:
    """The results of the annotation to use: the ground truth, else the latest; None without one."""
    given = task.get("annotations", task.get("completions")) or []
    usable = [
        item for item in given
        if isinstance(item, Mapping) and not item.get("was_cancelled") and isinstance(item.get("result"), list)
    ]  # fmt: skip
    if not usable:
        state = "was skipped" if given else "is not annotated"
        more = [kind for kind in ("predictions", "drafts") if task.get(kind)]
        what = f"the task {state}" + (f"; it has {' and '.join(more)} alone" if more else "") + "; it is left out"
        collector.problem("W135", where, what)
        return None
    truth = [item for item in usable if item.get("ground_truth")]
    chosen = max(truth or usable, key=lambda item: str(item.get("updated_at") or item.get("created_at") or ""))
    if not any(item.get("updated_at") or item.get("created_at") for item in usable):
        chosen = (truth or usable)[-1]
    if len(usable) > 1:
        which = "the ground truth" if truth else "the latest"
        collector.problem("W133", where, f"{len(usable)} annotations; {which} is read")
    return [
        {**item, "value": item["value"] if isinstance(item.get("value"), Mapping) else {}}
        for item in chosen["result"]
        if isinstance(item, Mapping)
    ]


def _base_row(task: Result, where: str, collector: SplitCollector) -> PostRow:
    """The post that was written; else the one from the task's data."""
    data = task["data"]
    row = data.get("namepin")
    if isinstance(row, Mapping):
        return {**row, "entities": [item for item in row.get("entities") or () if isinstance(item, Mapping)]}
    if not isinstance(data.get("text"), str):
        raise ValueError("the task has neither `data.namepin` nor a `data.text`")
    image = data.get("image")
    local = _local_picture(image) if isinstance(image, str) else None
    if image and local is None:
        collector.problem("W130", where, f"picture {image!r} is an address; download it and name its file")
    return {"id": data.get("id", task.get("id")), "text": data["text"], "image": local, "entities": []}


def _local_picture(address: str) -> str | None:
    """The file of a Label Studio address, relative to the data set's folder; None for a web address."""
    parts = urlsplit(address)
    if parts.path.rstrip("/").endswith("/data/local-files") and parts.query:
        found = parse_qs(parts.query).get("d", [""])[0]
        return found or None
    if parts.path.startswith("/data/upload/"):
        return re.sub(r"^[0-9a-f]{8}-", "", unquote(parts.path.rpartition("/")[2]))
    return None if parts.scheme or parts.netloc else address


def _is_region(value: Mapping[str, Any]) -> bool:
    return "start" not in value and bool(value.keys() & {"x", "points", "rle"})


class _SpanReader:
    """Reads the mentions of one task."""

    def __init__(self, row: PostRow, where: str, collector: SplitCollector) -> None:
        text, tokens = row.get("text"), row.get("tokens") or ()
        self._text = " ".join(map(str, tokens)) if text is None else text
        if not isinstance(self._text, str):
            raise ValueError("the post's text is not a string")
        self._entities, self._where, self._collector = row["entities"], where, collector

    def entity(self, span_id: str, item: Result) -> PostRow | None:
        """The mention of a span; None, and a problem, for an invalid span."""
        value = item["value"]
        span = self._span(span_id, value)
        if span is None:
            return None
        base = self._base(span_id, span)
        labels: Any = next((value[key] for key in ("labels", "hypertextlabels", "paragraphlabels") if key in value), [])
        names = [str(label) for label in labels] if isinstance(labels, list) else [str(labels)]
        known = [name for name in names if coarse_type(name)]
        if not known and (names or not base):
            self._list("E132", f"span {span_id} {names} has no type of the scheme; it is left out", loses=True)
            return None
        if len(known) > 1:
            self._list("W133", f"span {span_id} has {len(known)} types; {known[0]} is read")
        entity = {key: text for key, text in base.items() if key in ("boxes", "masks")}
        entity |= {"start": span[0], "end": span[1]}
        if not known or known[0] == (base.get("fine_label") or base.get("label")):
            return entity | {key: base[key] for key in ("label", "fine_label") if key in base}
        fine = fine_type(known[0])
        return entity | {"label": coarse_type(known[0])} | ({"fine_label": fine} if fine else {})

    def _span(self, span_id: str, value: Mapping[str, Any]) -> tuple[int, int] | None:
        start, end, stated = value.get("start"), value.get("end"), value.get("text")
        offsets = value.get("globalOffsets")
        if isinstance(offsets, Mapping):
            start, end = offsets.get("start"), offsets.get("end")
        if type(start) is not int or type(end) is not int:
            self._list("E132", f"span {span_id} has no offsets as whole numbers; it is left out", loses=True)
            return None
        if isinstance(stated, str) and self._text[start:end] != stated:
            units = self._text.encode("utf-16-le", "surrogatepass")  # JavaScript counts an emoji as two
            first, middle = units[: 2 * start], units[2 * start : 2 * end]
            if middle.decode("utf-16-le", "replace") == stated:
                start = len(first.decode("utf-16-le", "replace"))
                end = start + len(stated)
        if any((start, end) == (entity.get("start"), entity.get("end")) for entity in self._entities):
            return start, end
        if not 0 <= start < end <= len(self._text) or not self._text[start:end].strip():
            self._list(
                "E132", f"span {span_id} ({start}-{end}) is empty or outside the text; it is left out", loses=True
            )
            return None
        if isinstance(stated, str) and stated.split() != self._text[start:end].split():
            self._list("E132", f"span {span_id} says {stated!r}, the text there is {self._text[start:end]!r}")
        words = self._text[start:end]
        if words != words.strip():
            self._list("W133", f"span {span_id} {words!r} is read without the white space around it")
        return start + len(words) - len(words.lstrip()), end - len(words) + len(words.rstrip())

    def _base(self, span_id: str, span: tuple[int, int]) -> PostRow:
        """The mention in the post's row that the span came from."""
        if span_id[:1] == "e" and span_id[1:].isdecimal() and int(span_id[1:]) < len(self._entities):
            return dict(self._entities[int(span_id[1:])])
        return next((dict(e) for e in self._entities if (e.get("start"), e.get("end")) == span), {})

    def _list(self, code: str, what: str, loses: bool = False) -> None:
        self._collector.problem(code, self._where, what, loses="type" if loses else "")


def _owners(results: Sequence[Result], regions: Iterable[str], number_of: Mapping[str, int]) -> dict[str, set[int]]:
    """The entities' numbers of each region, from relations in either direction."""
    owners: dict[str, set[int]] = defaultdict(set)
    known = set(regions)
    for item in results:
        if item.get("type") == "relation":
            ends = str(item.get("from_id")), str(item.get("to_id"))
            for one, other in (ends, ends[::-1]):
                if one in known and other in number_of:
                    owners[one].add(number_of[other])
    return owners


def _draw(drawn: DrawnPost, numbers: Sequence[int], item: Result, name: str) -> None:
    """Add a region to its mentions.

    Raises:
        ValueError: when it is empty or its position is unknown.
    """
    value = item["value"]
    if item.get("image_rotation"):
        raise ValueError(f"the picture was turned by {item['image_rotation']} degrees; draw it on the upright picture")
    if "rle" in value:
        size = _seen_size(item) or drawn.gold.size
        if size is None:
            raise ValueError("its picture's size is unknown")
        drawn.draw_region(numbers, [decode_brush(value["rle"], (size[1], size[0]))], name)
        return
    size = _size(drawn, item)
    if "points" in value:
        corners = (finite_numbers(point, 2) for point in value["points"])
        points: list[Pt] = [(x * size[0] / 100, y * size[1] / 100) for x, y in corners]
        if len(points) < 3:
            raise ValueError(f"a polygon of {len(points)} points")
        drawn.draw_region(numbers, [points], name)
    elif "radiusX" in value:
        x, y, rx, ry = finite_numbers([value[key] for key in ("x", "y", "radiusX", "radiusY")], 4)
        centre, radii = (x * size[0] / 100, y * size[1] / 100), (rx * size[0] / 100, ry * size[1] / 100)
        drawn.draw_region(numbers, [ellipse(centre, radii, float(value.get("rotation") or 0))], name)
    elif "height" in value:
        _draw_rectangle(drawn, numbers, value, size, name)
    else:
        raise ValueError("a point encloses no region")


def _seen_size(item: Result) -> tuple[int, int] | None:
    """The picture's (width, height) in Label Studio."""
    width, height = item.get("original_width"), item.get("original_height")
    if isinstance(width, int | float) and isinstance(height, int | float):
        if 1 <= width <= 100_000 and 1 <= height <= 100_000:
            return int(width), int(height)
    return None


def _size(drawn: DrawnPost, item: Result) -> tuple[int, int]:
    """The (width, height) that a region's percentages refer to."""
    seen, size = _seen_size(item), drawn.gold.size
    if seen is None and size is None:
        raise ValueError("its picture's size is unknown, and its position is in percent of that")
    if seen and size and size != seen:
        drawn.note_change(f"the picture was {size[0]}x{size[1]} and is {seen[0]}x{seen[1]} here; the new size is read")
    if seen:
        drawn.gold = replace(drawn.gold, size=seen)
    return seen or size or (1, 1)


def _draw_rectangle(
    drawn: DrawnPost, numbers: Sequence[int], value: Mapping[str, Any], size: tuple[int, int], name: str
) -> None:
    x, y, width, height, degrees = finite_numbers(
        [*(value[key] for key in ("x", "y", "width", "height")), value.get("rotation") or 0], 5
    )
    left, top, across, down = x * size[0] / 100, y * size[1] / 100, width * size[0] / 100, height * size[1] / 100
    if degrees % 360 == 0:
        corners = [min(left, left + across), min(top, top + down), max(left, left + across), max(top, top + down)]
        drawn.draw_box(numbers, [round(corner, 2) for corner in corners], name)
        return
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))  # clockwise, about the first corner
    turned: DrawnRegion = [
        (left + dx * cos - dy * sin, top + dx * sin + dy * cos)
        for dx, dy in ((0.0, 0.0), (across, 0.0), (across, down), (0.0, down))
    ]
    drawn.draw_around(numbers, [turned], f"{name}, turned by {degrees:g} degrees,")
