"""Checks before a resume that rows and pictures still fit the existing results.

The input's hash covers only a picture's name. A prediction has the sha256 of the picture's bytes, so the file is hashed
again. Dates and sizes would give false alarms after a copy, and miss an edit that keeps them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from namepin.agent.batch.finished import finished_posts
from namepin.agent.batch.source import Row, Source
from namepin.agent.posts import PICTURE_MISSING
from namepin.tools.base import file_sha256
from namepin.tools.concurrency import map_ahead
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import TOO_SLOW, load_image

_AT_ONCE = 8
"""Number of files read at a time."""


def check_finished(
    source: Source,
    folder: Path,
    rows: int,
    max_pixels: int,
    on_finished: Callable[[Row, dict[str, Any]], None] = lambda row, found: None,
) -> None:
    """Compare the first `rows` rows of the input, and their pictures, with the folder's results.

    Pictures of failed posts and pictures that timed out are not compared. `on_finished` is called with each post and
    its prediction, in the order of the rows.

    Raises:
        NamepinError: E502 for the first row whose line is missing or belongs to another row, and for the first picture
            that has changed, disappeared or appeared.
    """

    def change(pair: tuple[Row, dict[str, Any]]) -> tuple[Row, dict[str, Any], str]:
        return *pair, picture_change(*pair, max_pixels)

    for row, found, what in map_ahead(change, finished_posts(source, folder, rows), _AT_ONCE):
        if what:
            mend = "restore it; or add --repair, which processes its row again; or choose another --out"
            name = (row.post and row.post.image) or row.where
            raise NamepinError("E502", f"the picture of a finished post {what}", where=name, mend=mend)
        on_finished(row, found)


def picture_change(row: Row, prediction: Mapping[str, Any], max_pixels: int) -> str:
    """The change to a row's picture since its prediction; empty without a change."""
    if row.picture is not None:
        return ""  # covered by the input's hash
    path = row.post.image if row.post else None
    sha256 = prediction["image"]["sha256"] if prediction["image"] else None
    if prediction["status"] == "failed" or not (path or sha256):
        return ""
    if path is None:
        return "is not there any more"
    if sha256 is None:
        warnings = [notice["message"] for notice in prediction["warnings"] if notice["code"] == PICTURE_MISSING]
        if (warnings and TOO_SLOW in warnings[0]) or not _loads(path, max_pixels):
            return ""
        return "is readable now, and was not then" if warnings else "was not there then"
    try:
        if Path(path).is_file():  # reading a pipe would block
            return "" if file_sha256(Path(path)) == sha256 else "has changed since"
    except OSError:
        pass
    return "is not there any more"


def _loads(path: str, max_pixels: int) -> bool:
    try:
        load_image(path, max_pixels=max_pixels)
    except NamepinError:
        return False
    return True
