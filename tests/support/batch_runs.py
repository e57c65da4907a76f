"""Batches with a function of the post instead of models."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from namepin.agent.batch.finished import PREDICTIONS
from namepin.agent.batch.out_folder import OutFolder
from namepin.agent.batch.source import Row, Source
from namepin.agent.batch.writing import Progress, Writing
from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction, ImageRef

PIXELS = 10**6


def result_of(row: Row, fingerprint: str) -> Extraction:
    """What the tool finds."""
    assert row.post is not None
    post, image = row.post, None
    if post.image:
        image = ImageRef(sha256=file_sha256(Path(post.image)), width=1, height=1)
    extra = dict(post.extra) or None
    tokens = tuple(post.text.split())
    return Extraction(
        id=post.id, text=post.text, tokens=tokens, image=image, status="ok", fingerprint=fingerprint, extra=extra
    )


def run(
    posts: Path,
    out: Path,
    *,
    repair: bool = False,
    limit: int | None = None,
    fingerprint: str = "f1",
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> tuple[Progress, list[int]]:
    """Process the posts, or resume; returns the last progress, and the processed rows.

    A post whose text begins with FAIL fails.
    """
    source, worked = Source(str(posts)), list[int]()
    identity = {"input_sha256": source.sha256()}
    with (
        OutFolder(out, identity, repair=repair) as folder,
        Writing(folder, PIXELS, source, limit, on_progress, fingerprint) as writing,
    ):
        for row in (row for group in writing.groups() for row in group.rows if row.number in group.due):
            worked.append(row.number)
            if row.post is None:
                writing.put(row, None, row.error)
            elif row.post.text.startswith("FAIL"):
                failed = result_of(row, fingerprint).model_copy(update={"status": "failed"})
                writing.put(row, failed, NamepinError("E103", "bad"))
            else:
                writing.put(row, result_of(row, fingerprint), None)
        writing.end(stopped=False)
        return writing.progress, worked


def ids(out: Path) -> list[str]:
    """Of the predictions."""
    return [json.loads(line)["id"] for line in (out / PREDICTIONS).read_text("utf-8").splitlines()]


def write_rows(path: Path, rows: list[Any]) -> Path:
    """Rows as JSON; text as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8")
    return path
