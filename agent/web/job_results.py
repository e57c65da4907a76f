"""A job's results on the page: a table by lines, and downloads as CSV and HTML."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from namepin.agent.chat.answers import rows_of
from namepin.agent.posts import read_posts
from namepin.agent.render.html import About, page, shrink
from namepin.agent.render.tables import as_csv
from namepin.agent.render.view import KIND_WORDS, PostView, kind, presence
from namepin.agent.server.jobs import POSTS, RESULTS, JobSource
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.jsonl import read_lines
from namepin.tools.types import Entity, Extraction

STEP = 50
"""Number of posts of the table that are shown at a time."""
MAX_HTML = 200
"""Number of posts in a job's HTML, whose pictures are part of the file."""

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
    """A post in the table; `failed` is the reason why it has no result."""

    where: str
    text: str
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
    """A job's first results as one HTML page that opens offline, with their pictures."""
    shown: list[PostView] = []
    for post, extraction in islice(zip(read_posts(folder / POSTS), _results(folder), strict=False), MAX_HTML):
        picture = None
        if post.image is not None and extraction.image is not None:
            try:
                picture = shrink(load_image(Path(post.image).read_bytes(), max_pixels=max_pixels).image)
            except (NamepinError, OSError):
                picture = None  # its result says what is missing
        shown.append(PostView(extraction, picture))
    return page(shown, about).encode("utf-8", "replace")


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
    return ShownRow(where, extraction.text, names, _problem(extraction))


def _problem(extraction: Extraction) -> str:
    return "; ".join(warning.message for warning in extraction.warnings) if extraction.status == "failed" else ""


def _name(entity: Entity, extraction: Extraction) -> ShownName:
    coarse = KIND_WORDS.get(entity.label, entity.label)
    fine = "unsure" if entity.type_uncertain else kind(entity) if entity.fine_label else ""
    place, form = _PLACES.get(presence(entity), ("", "")) if extraction.image else ("", "")
    return ShownName(entity.text, f"{coarse} · {fine}" if fine else coarse, place, form)
