"""The posts to try on the page, and their pictures in small."""

import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from PIL import Image

from namepin.agent.render.html import shrink
from namepin.tools.jsonl import read_lines

_FILE = Path(__file__).resolve().parents[2] / "examples" / "posts.jsonl"
_THUMBNAIL = 320
"""Longer side in pixels."""


@dataclass(frozen=True)
class Example:
    """A post to try.

    Attributes:
        number: its number, from 0.
        text: the post's text.
        picture: its picture's file.
    """

    number: int
    text: str
    picture: Path


@cache
def examples() -> tuple[Example, ...]:
    """The posts to try; none in an installation without them."""
    if not _FILE.is_file():
        return ()
    rows = [line.parse_object() for line in read_lines(_FILE)]
    return tuple(Example(number, row["text"], _FILE.parent / row["image"]) for number, row in enumerate(rows))


@cache
def thumbnail(number: int) -> bytes | None:
    """An example's picture as a small JPEG; None without such an example."""
    if number >= len(examples()):
        return None
    buffer = io.BytesIO()
    with Image.open(examples()[number].picture) as picture:
        shrink(picture.convert("RGB"), _THUMBNAIL).save(buffer, "JPEG", quality=82)
    return buffer.getvalue()
