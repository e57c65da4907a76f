"""A job's results on the page: a table by lines, and downloads as CSV and HTML."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from namepin.agent.chat.answers import rows_of
from namepin.agent.posts import read_posts
from namepin.agent.render.html import About, Part, page, shrink
from namepin.agent.render.tables import as_csv
from namepin.agent.render.view import KIND_WORDS, PostView, kind, notice_sentence, presence
from namepin.agent.server.jobs import POSTS, RESULTS, JobSource
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.jsonl import read_lines
from namepin.tools.types import Entity, Extraction

STEP = 50
"""Number of posts of the table that are shown at a time."""
PER_PAGE = 100
"""Number of posts of one HTML page. The pictures are part of the file, so a job with more posts has several pages."""
_LONGEST = 800
"""Longer side of a picture of an HTML page in pixels."""

_PLACES = {
    "yes": ("In the picture", "yes"),
    "no": ("Not in the picture", "no"),
    "cannot tell": ("Cannot tell", "unknown"),
}
_NO_NAME = ("name", "label", "fine_label", "start", "end", "type_uncertain", "in_picture", "match_score", "box")


@dataclass(frozen=True)
class ShownName:
    """A name in a row of the table: its type, and whether it is in the picture (`form` names the style)."""

    text: str
    type: str
    place: str
    form: str


@dataclass(frozen=True)
class ShownRow:
    """A post in the table.

    Attributes:
        where: the post's place in its file.
        text: its text.
        picture: sha256 of its picture; empty without one.
        names: its names.
        failed: the reason why it has no result; empty if it has one.
    """

    where: str
    text: str
    picture: str
    names: list[ShownName]
    failed: str


def table_rows(folder: Path, source: JobSource, start: int) -> tuple[list[ShownRow], int | None]:
    """The next rows of a job's table.

    Args:
        folder: the job's folder.
        source: the places of its posts in their files.
        start: the first row's number, from 0.

    Returns:
        The rows, and the number of the row after them; None at the end.
    """
    found = list(islice(_results(folder), start, start + STEP + 1))
    rows = [_shown(extraction, source.place(start + i)) for i, extraction in enumerate(found[:STEP])]
    return rows, start + STEP if len(found) > STEP else None


def csv_chunks(folder: Path, source: JobSource) -> Iterator[bytes]:
    """A job's results as CSV: one row per name, and one row for a post without names."""
    for number, extraction in enumerate(_results(folder)):
        post = {
            "post": extraction.id,
            "line": source.place(number),
            "text": extraction.text,
            "status": extraction.status,
        }
        names = rows_of(extraction) or [dict.fromkeys(_NO_NAME, "")]
        rows = [{**post, **name, "problem": _problem(extraction)} for name in names]
        yield as_csv(rows, header=number == 0).encode("utf-8", "replace")


def html_page(folder: Path, about: About, max_pixels: int) -> bytes:
    """The results of a job with at most `PER_PAGE` posts as one HTML page that opens offline, with their pictures."""
    return page(list(islice(_views(folder, max_pixels), PER_PAGE)), about).encode("utf-8", "replace")


def html_zip(folder: Path, done: int, about: About, max_pixels: int) -> Iterator[bytes]:
    """A job's first `done` results as a ZIP of HTML pages that link one another, piece by piece as they are made."""
    starts = range(0, done, PER_PAGE)
    files = tuple(f"page-{number}.html" if number > 1 else "index.html" for number in range(1, len(starts) + 1))
    views = islice(_views(folder, max_pixels), done)
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for start, name in zip(starts, files, strict=True):
            shown = list(islice(views, PER_PAGE))
            body = page(shown, about, Part(start + 1, done, files, name))
            archive.writestr(name, body.encode("utf-8", "replace"))
            yield pieces.take()
    yield pieces.take()


@dataclass
class _Pieces:
    """A file that is only written, and read away piece by piece."""

    waiting: list[bytes] = field(default_factory=list)

    def write(self, data: bytes) -> int:
        self.waiting.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is open."""

    def take(self) -> bytes:
        data, self.waiting = b"".join(self.waiting), []
        return data


def _views(folder: Path, max_pixels: int) -> Iterator[PostView]:
    """A job's results with their pictures, reduced."""
    for post, extraction in zip(read_posts(folder / POSTS), _results(folder), strict=False):
        picture = None
        if post.image is not None and extraction.image is not None:
            try:
                picture = shrink(load_image(Path(post.image).read_bytes(), max_pixels=max_pixels).image, _LONGEST)
            except (NamepinError, OSError):
                picture = None  # its result says what is missing
        yield PostView(extraction, picture)


def _results(folder: Path) -> Iterator[Extraction]:
    path = folder / RESULTS
    if not path.exists():
        return
    for line in read_lines(path):
        if not line.data.endswith(b"\n"):
            return  # it is being written
        yield Extraction.model_validate_json(line.data)


def _shown(extraction: Extraction, where: str) -> ShownRow:
    names = [_name(entity, extraction) for entity in extraction.entities]
    picture = extraction.image.sha256 if extraction.image else ""
    return ShownRow(where, extraction.text, picture, names, _problem(extraction))


def _problem(extraction: Extraction) -> str:
    return " ".join(map(notice_sentence, extraction.warnings)) if extraction.status == "failed" else ""


def _name(entity: Entity, extraction: Extraction) -> ShownName:
    coarse = KIND_WORDS.get(entity.label, entity.label)
    fine = "unsure" if entity.type_uncertain else kind(entity) if entity.fine_label else ""
    place, form = _PLACES.get(presence(entity), ("", "")) if extraction.image else ("", "")
    return ShownName(entity.text, f"{coarse} · {fine}" if fine else coarse, place, form)
