"""Shots of an extractor: annotated posts that stand before the question as earlier turns, with their pictures.

`python -m namepin.evals.shots` draws them from a training split.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from namepin.tools.extractor.answer import ENTITIES, GoldMention, Scheme, read_type, write_answer
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.geometry import Rectangle
from namepin.tools.images.load import load_image
from namepin.tools.jsonl import read_rows
from namepin.tools.labels import FINE_TO_COARSE8, SCHEMES
from namepin.tools.llm.box_frames import box_numbers


@dataclass(frozen=True)
class Shot:
    """One annotated post.

    Attributes:
        text: the post.
        mentions: its names, with types of the tool's scheme and boxes in pixels of the upright picture.
        picture: the upright picture, or None.
        sha256: of the picture's pixels; empty without one.
    """

    text: str
    mentions: tuple[GoldMention, ...]
    picture: Image.Image | None
    sha256: str

    def answer(self, frame: BoxFrame | None, *, wrapped: bool = False) -> str:
        """The answer to the question about it.

        Args:
            frame: how the model counts in its picture; None without a picture.
            wrapped: whether the list is in an object under `entities`.
        """
        rows = write_answer(self.mentions, frame)
        return f'{{"{ENTITIES}": {rows}}}' if wrapped else rows


class Shots:
    """The shots of a file, in its order; none without a file.

    Raises:
        NamepinError: E130 when the file is missing, E134 when a row is not a shot, E120 to E125 for a picture that
            cannot be read.
    """

    def __init__(self, file: Path | None, scheme: Scheme) -> None:
        self._shots: Sequence[Shot] = ()
        if file is None:
            return
        if not file.is_file():
            mend = "make it with python -m namepin.evals.shots, or check extractor.shots"
            raise NamepinError("E130", "no shots here", where=str(file), mend=mend)
        mend = 'a row is {"text": post, "image": file or null, "answer": [{"text", "type", "box"}]}'
        found = list(read_rows(file, lambda row: _row(row, scheme), "a shot", mend))
        self._shots = [_with_picture(file.parent, *row) for row in found]

    @property
    def settings(self) -> Mapping[str, str]:
        """What a fingerprint covers; nothing without shots, so that a tool without them keeps its fingerprint."""
        rows = [[shot.text, shot.answer(_own_frame(shot)), shot.sha256] for shot in self._shots]
        return {"shots": digest(rows)} if rows else {}

    def before(self, text: str) -> list[Shot]:
        """The shots to show before the question about a post: all but the post itself."""
        return [shot for shot in self._shots if shot.text != text]


def _own_frame(shot: Shot) -> BoxFrame | None:
    return BoxFrame("pixels", shot.picture.size, shot.picture.size) if shot.picture else None


def _row(row: Mapping[str, Any], scheme: Scheme) -> tuple[str, str | None, tuple[GoldMention, ...]]:
    text, image = row["text"], row.get("image")
    if not isinstance(text, str) or not (image is None or isinstance(image, str)):
        raise ValueError("`text` is not text, or `image` is neither a file nor null")
    return text, image, tuple(_mention(item, text, scheme) for item in row["answer"])


def _mention(item: Mapping[str, Any], text: str, scheme: Scheme) -> GoldMention:
    name, kind = item["text"], _type(item["type"], scheme)
    if name not in text:
        raise ValueError(f"{name!r} is not in the text")
    box: Rectangle | None = None if item.get("box") is None else box_numbers(item["box"])
    if box is None and item.get("box") is not None:
        raise ValueError("`box` is neither four numbers nor null")
    return GoldMention(name, kind, box)


def _type(name: str, scheme: Scheme) -> str:
    """A type of a finer or the same scheme, in the tool's scheme."""
    coarse, fine = read_type(name, "fmnerg51") or ("", None)
    if scheme == "fmnerg51":
        found = fine
    elif scheme == "fmnerg8":
        found = FINE_TO_COARSE8[fine] if fine else name
    else:
        found = coarse
    if found not in SCHEMES[scheme]:
        raise ValueError(f"{name!r} is no type of {scheme}")
    return found


def _with_picture(folder: Path, text: str, image: str | None, mentions: tuple[GoldMention, ...]) -> Shot:
    if image is None:
        return Shot(text, mentions, None, "")
    loaded = load_image(str(folder / image))
    return Shot(text, mentions, loaded.image, loaded.ref.sha256)
