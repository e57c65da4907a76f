"""Before a run goes on: are the pictures of the rows that are done still the ones their results were made from?

The input's hash covers what the input says, and that is a picture's name. A prediction has the sha256 of the bytes that
were read, so the file is hashed again: dates and sizes would cry wolf after a copy, and miss an edit that keeps them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from namepin.agent.batch.out_folder import PREDICTIONS
from namepin.agent.batch.source import Source
from namepin.agent.posts import PICTURE_MISSING
from namepin.tools.base import file_sha256
from namepin.tools.concurrency import map_ahead
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import TOO_SLOW, load_image

_AT_ONCE = 8
"""Files read at a time."""


@dataclass(frozen=True)
class _Done:
    """A row that is done, and what its prediction says about its picture.

    Attributes:
        where: the row's.
        path: the picture's, as the row names it now.
        sha256: of what was read; None where nothing was.
        warned: why nothing was read; empty where the row named no picture then.
    """

    where: str
    path: str | None
    sha256: str | None
    warned: str


def check_pictures(source: Source, folder: Path, done: int, max_pixels: int) -> None:
    """Compare the pictures of the first `done` rows with what the folder's predictions were made from.

    Not compared: pictures of posts that failed, and those that were given up after the deadline.

    Raises:
        NamepinError: E502 for the first one that is another, is gone, or is there and was not.
    """
    for what, row in map_ahead(lambda row: (_changed(row, max_pixels), row), _rows(source, folder, done), _AT_ONCE):
        if what:
            mend = "put the picture back as it was, or choose another folder with --out"
            name = row.path or row.where
            raise NamepinError("E502", f"the picture of a post that is done {what}", where=name, mend=mend)


def _rows(source: Source, folder: Path, done: int) -> Iterator[_Done]:
    """Rows with a picture, then or now. Predictions are in the order of the rows; a row that is no post has none."""
    if not done:
        return
    posts = (row for row in takewhile(lambda row: row.number <= done, source.rows()) if row.post is not None)
    with (folder / PREDICTIONS).open("rb") as lines:
        for row, line in zip(posts, lines, strict=False):
            assert row.post is not None
            said: dict[str, Any] = json.loads(line)
            sha256 = said["image"]["sha256"] if said.get("image") else None
            if said["status"] != "failed" and (row.post.image or sha256):
                warned = [one["message"] for one in said["warnings"] if one["code"] == PICTURE_MISSING]
                yield _Done(row.where, row.post.image, sha256, warned[0] if warned else "")


def _changed(row: _Done, max_pixels: int) -> str:
    """What happened to the picture; empty if nothing did."""
    if row.path is None:
        return "is not there any more"
    if row.sha256 is None:
        if TOO_SLOW in row.warned or not _loads(row.path, max_pixels):
            return ""
        return "can be read now, and could not be then" if row.warned else "was not there then"
    try:
        if Path(row.path).is_file():  # a pipe would be waited for
            return "" if file_sha256(Path(row.path)) == row.sha256 else "has changed since"
    except OSError:
        pass
    return "is not there any more"


def _loads(path: str, max_pixels: int) -> bool:
    try:
        load_image(path, max_pixels=max_pixels)
    except NamepinError:
        return False
    return True
