"""Rows from described regions: what a picture shows or does not, in words, without any post about it.

Networks that look are taught so before they meet posts: OFA's grounding began with RefCOCO, BLIP with captions. The
layout is our own, `regions/SPLIT.jsonl` beside `images/`, a picture a line:
`{"id": ..., "regions": [{"text": ..., "boxes": [[x1, y1, x2, y2], ...], "masks":
[{"size": [height, width], "counts": COCO's RLE}, ...]}, ...]}`, in the upright picture's pixels; no box says that
the picture does not show it, `masks` may be left out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from evals.gold import RawBox
from finetune.visual_data import Seen, Split
from tools.base import file_sha256
from tools.errors import NamepinError
from tools.interfaces import Query
from tools.types import Mask


class Described(BaseModel):
    """Something that a picture shows, or not."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1)]
    boxes: list[RawBox]
    masks: list[Mask] = []


class Picture(BaseModel):
    """A picture with its regions."""

    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    regions: list[Described]


def read_regions(root: Path, split: str) -> Split:
    """Every description of a split; its text is all that is said, there is no name and no type.

    Raises:
        NamepinError: E130 when the file is missing, E134 when a line cannot be understood, E120 when a
            picture is missing.
    """
    path = root / "regions" / f"{split}.jsonl"
    if not path.is_file():
        mend = "described regions are read from regions/SPLIT.jsonl; see docs/finetune.md"
        raise NamepinError("E130", "no such file", where=str(path), mend=mend)
    rows = [row for number, line in enumerate(path.read_bytes().split(b"\n"), 1) for row in _rows(path, number, line)]
    return Split(tuple(dict.fromkeys(rows)), {f"regions {split}": file_sha256(path)}, str(path))


def _rows(path: Path, number: int, line: bytes) -> Iterator[Seen]:
    if not line.strip():
        return
    try:
        picture = Picture.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        what = f"not a picture with its regions: {place + ': ' if place else ''}{first['msg']}"
        raise NamepinError("E134", what, where=f"{path}:{number}") from error
    image = path.parent.parent / "images" / f"{picture.id}.jpg"
    if not image.is_file():
        raise NamepinError("E120", f"there is no picture {image}", where=f"{path}:{number}", mend="add it")
    for one in picture.regions:
        yield Seen(
            post=picture.id,
            text="",
            image=str(image),
            query=Query(text=one.text, label="MISC", category="MISC"),
            boxes=tuple(one.boxes),
            masks=tuple(one.masks),
            expansion=one.text,
            reading="expansion",
        )
