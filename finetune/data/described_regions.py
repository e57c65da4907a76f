"""Rows from described regions: descriptions of what a picture shows or does not show, without a post.

Vision networks learn from such rows before posts: OFA's grounding began with RefCOCO, BLIP with captions. The layout is
our own, `regions/SPLIT.jsonl` beside `images/`, one picture per line:
`{"id": ..., "regions": [{"text": ..., "boxes": [[x1, y1, x2, y2], ...], "masks":
[{"size": [height, width], "counts": COCO's RLE}, ...]}, ...]}`, in the upright picture's pixels. An empty `boxes` list
means that the picture does not show the object. `masks` is optional.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from PIL import ExifTags, Image
from pydantic import BaseModel, ConfigDict, Field

from namepin.finetune.data.rows import MentionRow, Split
from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.files import file_of
from namepin.tools.geometry import inside_picture
from namepin.tools.images.decode import FORMATS
from namepin.tools.interfaces import Query
from namepin.tools.jsonl import read_placed_rows
from namepin.tools.types import Box, Mask


class Described(BaseModel):
    """A described object that the picture shows or does not show."""

    model_config = ConfigDict(extra="forbid")
    text: Annotated[str, Field(min_length=1)]
    boxes: list[Box]
    masks: list[Mask] = []


class Picture(BaseModel):
    """A picture with its regions."""

    model_config = ConfigDict(extra="forbid")
    id: Annotated[str, Field(min_length=1)]
    regions: list[Described]


def read_regions(root: Path, split: str) -> Split:
    """Every description of a split as a row. A row has the description's text, without a name or a type.

    Raises:
        NamepinError: E130 when the file is missing, E134 when a line is invalid, or a box is inverted, not finite or
            more than a pixel outside its picture, E120 when a picture is missing.
    """
    path = root / "regions" / f"{split}.jsonl"
    if not path.is_file():
        mend = "described regions are read from regions/SPLIT.jsonl; see docs/finetune.md"
        raise NamepinError("E130", "no such file", where=str(path), mend=mend)
    pictures = read_placed_rows(path, Picture.model_validate, "a picture with its regions")
    rows = [row for where, picture in pictures for row in _rows(root, where, picture)]
    return Split(tuple(dict.fromkeys(rows)), {f"regions {split}": file_sha256(path)}, str(path))


def _rows(root: Path, where: str, picture: Picture) -> Iterator[MentionRow]:
    image = file_of(root / "images", picture.id, ".jpg")
    if not image.is_file():
        raise NamepinError("E120", f"there is no picture {image}", where=where, mend="add it")
    size = _size(image)
    for one in picture.regions:
        for box in one.boxes:
            if size and not inside_picture(box, size, tolerance=1):
                what = f"box {box} of {one.text!r} leaves the {size[0]}x{size[1]} picture"
                raise NamepinError("E134", what, where=where)
        yield MentionRow(
            post=picture.id,
            text="",
            image=str(image),
            query=Query(text=one.text, label="MISC", category="MISC"),
            boxes=tuple(one.boxes),
            masks=tuple(one.masks),
            expansion=one.text,
            reading="expansion",
        )


def _size(image: Path) -> tuple[int, int] | None:
    """The upright picture's (width, height) from its header; None if unreadable (the loader reports the error)."""
    try:
        with Image.open(image, formats=FORMATS) as picture:
            (width, height), turned = picture.size, picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises nearly every built-in type on damaged data
        return None
    return (height, width) if turned in (5, 6, 7, 8) else (width, height)
