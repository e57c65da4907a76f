"""RiVEG's Table II: the share of groundable entities that one of a detector's first N boxes fits."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.protocols import region_overlap
from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import read_placed_rows

Boxes = list[tuple[float, float, float, float]]

MAX_BOXES = 100_000


class TopN(BaseModel):
    """TopN-Prec@IoU.

    Attributes:
        entities: gold entities with a box.
        without: number of them in posts without boxes; they count as missed.
        precision: N -> the share of entities that one of the first N boxes fits.
    """

    model_config = ConfigDict(frozen=True)
    entities: int
    without: int
    iou: float
    precision: dict[int, float]


def top_n(data: Dataset, boxes: Mapping[str, Boxes], ns: Sequence[int], iou: float) -> TopN:
    """Score a detector's boxes, most probable first: IoU >= `iou` with any gold box of an entity.

    Raises:
        NamepinError: E139 when the data has no boxes, or a threshold or N is invalid.
    """
    if not 0 < iou <= 1 or not ns or min(ns) < 1:
        raise NamepinError("E139", "IoU must lie in (0, 1], and N be 1 or more")
    golden = [(gold.post.id, entity.boxes) for gold in data.posts for entity in gold.entities if entity.boxes]
    if not golden:
        raise NamepinError(
            "E139", f"{data.name} {data.split} has no boxes to compare with", mend="give a root with xml/"
        )
    best: list[int] = []
    for post, gold_boxes in golden:
        fitting = (rank for rank, box in enumerate(boxes.get(post, ()), 1)
                   if any(region_overlap(box, one) >= iou for one in gold_boxes))  # fmt: skip
        best.append(next(fitting, MAX_BOXES + 1))
    return TopN(
        entities=len(golden),
        without=sum(not boxes.get(post) for post, _ in golden),
        iou=iou,
        precision={n: sum(rank <= n for rank in best) / len(golden) for n in ns},
    )


def read_boxes(path: Path) -> dict[str, Boxes]:
    """A detector's boxes by post id: JSONL rows `{"id", "boxes": [[x1, y1, x2, y2] or [x1, y1, x2, y2, score]]}`.

    With scores, the highest comes first; without scores, the order of the row is kept.

    Raises:
        NamepinError: E130 when the file is missing, E134 for an invalid row or an id that occurs twice.
    """
    found: dict[str, Boxes] = {}
    mend = 'a row is {"id", "boxes": [[x1, y1, x2, y2, score], ...]}'
    for where, (post, boxes) in read_placed_rows(path, _row, "a row of boxes", mend):
        if post in found or len(boxes) > MAX_BOXES:
            what = f"post {post!r} comes twice" if post in found else f"{len(boxes)} boxes"
            raise NamepinError("E134", what, where=where, mend=mend)
        if boxes and all(len(box) == 5 for box in boxes):
            boxes.sort(key=lambda box: -box[4])
        found[post] = [(box[0], box[1], box[2], box[3]) for box in boxes]
    return found


def _row(row: dict[str, Any]) -> tuple[str, list[tuple[float, ...]]]:
    return str(row["id"]), [_box(box) for box in row["boxes"]]


def _box(value: Sequence[Any]) -> tuple[float, ...]:
    box = tuple(float(number) for number in value)
    if len(box) not in (4, 5) or not all(map(math.isfinite, box)) or not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"a box is {list(value)[:6]}")
    return box
