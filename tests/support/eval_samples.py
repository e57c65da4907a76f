"""Small data sets and predictions for the tests of evals/, built in memory or in a folder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost
from namepin.evals.scoring.predictions import Predictions, check
from namepin.tools.types import Mask, Post

Box = tuple[float, float, float, float]


def gold(
    post_id: str, tokens: str, *entities: tuple[int, int, str] | tuple[int, int, str, Sequence[Box]], **more: Any
) -> GoldPost:
    """A post of blank-separated tokens with entities (first token, end token, type, boxes)."""
    words = tuple(tokens.split(" "))
    post = Post(id=post_id, text=tokens, tokens=words)
    starts = [len(" ".join(words[:i])) + (i > 0) for i in range(len(words))]
    found = []
    for first, end, label, *boxes in entities:
        span = (starts[first], starts[end - 1] + len(words[end - 1]))
        fine = more.get("fine", {}).get((first, end))
        masks = more.get("masks", {}).get((first, end), ()) if "masks" in more else None
        found.append(
            GoldEntity(tokens[slice(*span)], span, (first, end), label, fine, tuple(boxes[0]) if boxes else (), masks)
        )
    return GoldPost(post, tuple(found), size=more.get("size"), where=f"memory:{post_id}")


def dataset(*posts: GoldPost, **more: Any) -> Dataset:
    settings = {"name": "gmner", "scheme": "gmner4", "has_boxes": True} | more
    return Dataset(split="dev", release="made up", sha256="0" * 64, posts=posts, **settings)


def entity(first: int, end: int, label: str, box: Sequence[float] | None = None, **more: Any) -> dict[str, Any]:
    """A predicted entity by token span; without `groundable` in `more`, as its box has it."""
    return {"token_span": [first, end], "label": label, "box": box, "groundable": box is not None} | more


def predictions(data: Dataset, **rows: list[dict[str, Any]]) -> Predictions:
    """Predictions by post id; a post that is not named has none, yet is no missing id."""
    rows = {post.post.id: [] for post in data.posts} | rows
    return check([(f"row {post_id}", {"id": post_id, "entities": found}) for post_id, found in rows.items()], data)


def from_gold(data: Dataset) -> list[dict[str, Any]]:
    """Rows that repeat the gold exactly."""
    return [
        {
            "id": post.post.id,
            "entities": [
                {
                    "start": e.span[0],
                    "end": e.span[1],
                    "label": e.label if data.scheme == "gmner4" else "OTHER",
                    "fine_label": e.fine,
                    "groundable": e.groundable,
                    "box": e.boxes[0] if e.boxes else None,
                    "mask": e.masks[0].model_dump() if e.masks else None,
                }
                for e in post.entities
            ],
        }
        for post in data.posts
    ]


def mask_of(x1: int, y1: int, x2: int, y2: int, width: int = 20, height: int = 10) -> Mask:
    import numpy as np

    array = np.zeros((height, width), dtype=bool)
    array[y1:y2, x1:x2] = True
    return Mask.from_array(array)


GMNER_TEXT = "IMGID:1\nAngelina\tB-PER\nJolie\tI-PER\nin\tO\nRome\tB-LOC\n\nIMGID:2\nnothing\tO\nhere\tO\n\n"

XML = """<annotation><size><width>100</width><height>80</height></size>
<object><name>Angelina Jolie</name>
<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>50</xmax><ymax>60</ymax></bndbox></object>{more}</annotation>"""


def gmner_folder(root: Path, text: str = GMNER_TEXT, xml: str | None = XML.format(more="")) -> Path:
    """A Twitter-GMNER folder with one split, dev."""
    (root / "txt").mkdir(parents=True)
    (root / "txt" / "dev.txt").write_text(text, "utf-8")
    if xml is not None:
        (root / "xml").mkdir()
        (root / "xml" / "1.xml").write_text(xml, "utf-8")
    return root


def write_rows(path: Path, rows: Sequence[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n", "utf-8")
    return path
