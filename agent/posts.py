"""Turns posts and pictures in any accepted form into the graph's input."""

import io
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps
from pydantic import ValidationError

from namepin.agent.config.settings import ImageSettings
from namepin.tools.errors import NamepinError, first_problem
from namepin.tools.images.load import NOT_IN_TIME, LoadedImage, load_image
from namepin.tools.images.remote import fetch
from namepin.tools.jsonl import Line, read_lines
from namepin.tools.language import not_english
from namepin.tools.text import clean_text
from namepin.tools.types import ImageRef, Notice, Post

Picture = str | Path | bytes | Image.Image | np.ndarray[Any, Any]
"""A picture's file, its bytes, an opened image, or its pixels.

Pixels are uint8 of shape (height, width), (height, width, 3) in RGB order, or (height, width, 4) with transparency.
With the setting `images.urls`, a text that begins with `https://` is an address.
"""

AnyPost = Post | str | Mapping[str, Any]
"""A post, its text alone, or a row `{"id", "text" | "tokens", "image"}`.

A row's `image` may be any `Picture`, or `{"bytes", "path"}`, which is how Hugging Face data sets hold pictures.
"""

PICTURE_MISSING, TEXT_CLEANED, NOT_ENGLISH = "W101", "W104", "W105"
_OTHER_NAMES = {
    "id_str": "id",
    "tweet_id": "id",
    "post_id": "id",
    "full_text": "text",
    "content": "text",
    "sentence": "text",
    "words": "tokens",
    "image_path": "image",
}


@dataclass(frozen=True)
class Ready:
    """A post with cleaned text and loaded picture, and the warnings about them.

    `given` is the picture in the form in which it was given, so that it can be read again.
    """

    post: Post
    picture: LoadedImage | None
    notices: tuple[Notice, ...] = ()
    given: Picture | None = None

    @property
    def image(self) -> ImageRef | None:
        """The picture by content."""
        return self.picture.ref if self.picture else None


def as_post(given: AnyPost) -> Post:
    """A post from any accepted form; a bare text gets the id `post`.

    Raises:
        NamepinError: as `make_post`.
    """
    if isinstance(given, Post):
        return given
    return make_post({"id": "post", "text": given} if isinstance(given, str) else dict(given))


def split_picture(given: AnyPost) -> tuple[AnyPost, Picture | None]:
    """A row's pixels or bytes apart from the rest; None where the picture is a file's name, or there is none."""
    image = given.get("image") if isinstance(given, Mapping) else None
    if image is None or isinstance(image, str):
        return given, None
    assert isinstance(given, Mapping)
    rest = {key: value for key, value in given.items() if key != "image"}
    if isinstance(image, Mapping):
        path, data = image.get("path"), image.get("bytes")
        return (rest, data) if data is not None else ({**rest, "image": path}, None)
    return rest, image


def make_post(row: Any, where: str = "") -> Post:
    """A validated post. Lone surrogates, which JSON and UTF-8 cannot hold, become U+FFFD; `ready` warns about them.

    Raises:
        NamepinError: E101 when its text is empty, E103 for any other fault.
    """
    try:
        row = _readable(row)
    except RecursionError as error:
        raise NamepinError("E103", "not a post: nested too deeply", where=where, mend="give flat rows") from error
    except ValueError as error:
        mend = "remove such values, or give them as text"
        raise NamepinError("E103", f"not a post: {error}", where=where, mend=mend) from error
    if isinstance(row, dict) and isinstance(row.get("id"), int) and not isinstance(row["id"], bool):
        row = {**row, "id": str(row["id"])}
    text = row.get("text") if isinstance(row, dict) else None
    if isinstance(text, str) and not text.strip():
        raise NamepinError(
            "E101", "the text is empty", where=where or "text", mend="give a post with at least one word"
        )
    try:
        return Post.model_validate(row)
    except ValidationError as error:
        message = f"not a post: {first_problem(error)}"
        message += _renaming(row)  # part of the message, so that `failures.jsonl` has it as well
        raise NamepinError("E103", message, where=where, mend="see docs/cli.md for the form of a post") from error


def _renaming(row: Any) -> str:
    """A hint about fields to rename, for rows with the field names of other programs."""
    if not isinstance(row, dict):
        return ""
    names = {**row, **(row["extra"] if isinstance(row.get("extra"), dict) else {})}
    found = [f"{other} to {own}" for other, own in _OTHER_NAMES.items() if other in names and own not in row]
    return f"; rename {', '.join(found)}" if found else ""


def read_posts(path: Path) -> Iterator[Post]:
    """The posts of a JSONL file, pictures relative to the file; keys that are not a post's own go to `extra`.

    Raises:
        NamepinError: E104 when the file cannot be read or an id occurs twice, E103 with a line that is not a post.
    """
    seen: set[str] = set()
    for line in _lines(path):
        post = make_post(_post_row(line), line.where)
        if post.id in seen:
            what = f"post id {post.id!r} occurs twice"
            raise NamepinError("E104", what, where=line.where, mend="give each post its own id")
        seen.add(post.id)
        yield post.model_copy(update={"image": str(path.parent / post.image)}) if post.image else post
    if not seen:
        raise NamepinError("E104", "the file holds no posts", where=str(path), mend="give one JSON object per line")


def _lines(path: Path) -> Iterator[Line]:
    try:
        yield from read_lines(path)
    except OSError as error:
        what = f"posts file not readable: {error.strerror or error}"
        raise NamepinError("E104", what, where=str(path), mend="check the path") from error


def _readable(value: Any) -> Any:
    """A row whose strings can be encoded; each replaced character becomes one character.

    Raises:
        ValueError: for values that JSON cannot hold: numbers that are not finite, and bytes.
    """
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value} is not a finite number")
    if isinstance(value, bytes | bytearray):
        raise ValueError("a value of bytes")
    if isinstance(value, Mapping):
        return {_readable(key): _readable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_readable(inner) for inner in value]
    return value


def _object(line: Line) -> dict[str, Any]:
    try:
        return line.parse_object()
    except ValueError as error:
        mend = 'give one object per line: {"id": ..., "text": ..., "image": ...}'
        raise NamepinError("E103", str(error), where=line.where, mend=mend) from error


def _post_row(line: Line) -> dict[str, Any]:
    row, where = _object(line), line.where
    own = {key: row.pop(key) for key in ("id", "text", "tokens", "image", "extra") if key in row}
    extra = own.get("extra") or {}
    if not isinstance(extra, dict):
        raise NamepinError("E103", "not a post: extra is not an object", where=where, mend='give "extra": {...}')
    return own | ({"extra": {**extra, **row}} if row else {})


def ready(post: Post, picture: Picture | None, images: ImageSettings) -> Ready:
    """Clean the text and load the picture.

    A picture passed as an argument must be readable. A picture that the post itself names may be missing: this gives a
    warning, since a batch should still process the text. Decoding of either may time out.

    Raises:
        NamepinError: E101, E102 for the text; E12x for a picture passed as an argument.
    """
    cleaned, notices = _clean(post)
    notices += _language(cleaned.text)
    if picture is not None:
        if isinstance(picture, str | Path):  # a cassette stores the name, so that `replay --images` finds the file
            cleaned = cleaned.model_copy(update={"image": str(picture)})
    named = post.image if picture is None else picture
    if named is None:
        return Ready(cleaned, None, notices)
    try:
        return Ready(cleaned, load_picture(named, images), notices, named)
    except NamepinError as error:
        if picture is not None and error.code != NOT_IN_TIME:
            raise
        return Ready(cleaned, None, (*notices, picture_missing(error)))


def picture_missing(error: NamepinError) -> Notice:
    """The warning of a post that goes on without its picture because of `error`."""
    return Notice(code=PICTURE_MISSING, tool="images", message=f"went on without its picture: {error}")


def load_picture(picture: Picture, images: ImageSettings) -> LoadedImage:
    """Load a picture in any form; an opened image and pixels are encoded as PNG.

    Raises:
        NamepinError: E12x; E123 for a value that is not a picture at all, E126 and E127 for an address.
    """
    if isinstance(picture, np.ndarray):
        picture = _opened(picture)
    if isinstance(picture, Image.Image):
        return load_image(_png(picture), max_pixels=images.max_pixels)
    if isinstance(picture, bytearray | memoryview):
        picture = bytes(picture)
    if not isinstance(picture, str | Path | bytes):
        raise _not_a_picture(f"a value of type {type(picture).__name__}")
    if images.urls and isinstance(picture, str) and picture.startswith("https://"):
        picture = fetch(picture)
    return load_image(picture, max_pixels=images.max_pixels)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    upright = ImageOps.exif_transpose(picture)
    (upright if upright.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else upright.convert("RGB")).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def _opened(pixels: "np.ndarray[Any, Any]") -> Image.Image:
    if (
        pixels.dtype != np.uint8
        or pixels.ndim not in (2, 3)
        or pixels.shape[2:] not in ((), (3,), (4,))
        or not pixels.size
    ):
        raise _not_a_picture(f"an array of shape {pixels.shape} and type {pixels.dtype}")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _not_a_picture(what: str) -> NamepinError:
    mend = "give a path, bytes, a PIL image, or a uint8 array of shape (height, width, 3) in RGB order"
    return NamepinError("E123", f"not a picture: {what}", mend=mend)


def _language(text: str) -> tuple[Notice, ...]:
    why = not_english(text)
    message = f"probably not English ({why}): the taggers know English posts, so names may be missing or wrong"
    return (Notice(code=NOT_ENGLISH, tool="text", message=message),) if why else ()


def _clean(post: Post) -> tuple[Post, tuple[Notice, ...]]:
    text = clean_text(post.text)
    count = sum(a != b for a, b in zip(text, post.text, strict=True)) + post.text.count("\ufffd")
    if not count:
        return post, ()
    tokens = None
    if post.tokens is not None:
        # Each character becomes one character, so the tokens' lengths stay valid.
        cuts, at = [], 0
        for token in post.tokens:
            cuts.append(text[at : at + len(token)])
            at += len(token) + 1
        tokens = tuple(cuts)
    message = f"{count} control or invalid character{'' if count == 1 else 's'} replaced in the text"
    notice = Notice(code=TEXT_CLEANED, tool="text", message=message)
    return post.model_copy(update={"text": text, "tokens": tokens}), (notice,)
