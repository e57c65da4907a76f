"""Helpers of the record and replay tests: record posts of the doubles, read the files back."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from namepin.graphs import gem
from namepin.graphs.context import Context
from namepin.graphs.recording.cassette_files import LINES, end_line
from namepin.graphs.recording.recorder import Recorder
from namepin.graphs.run import extract_post
from namepin.tools.types import Extraction, Post
from support.scripted_tools import IMAGE, Scripted, make_context

TEXT = "Anna and Bob met Zed in Oslo"


def record(
    directory: Path,
    texts: Sequence[str] = (TEXT, "Bob likes Anna Mia", "no names"),
    tools: dict[str, Scripted] | None = None,
    **fields: Any,
) -> list[Extraction]:
    """Record posts, all at once; the ids are the texts' first words."""
    graph, calls = gem.build(), make_context(tools).calls
    posts = [Post(id=text.split()[0], text=text, image="/home/me/photo.jpg", extra={"row": 1}) for text in texts]

    async def all_posts() -> list[Extraction]:
        with Recorder(directory, graph=graph.name, profile={"profile": "scripted"}) as recorder:
            runs = []
            for post in posts:
                context = recorder.listen(Context(calls=calls, **fields), post, IMAGE)
                runs.append(extract_post(graph, post, IMAGE, context))
            return await asyncio.gather(*runs)

    return asyncio.run(all_posts())


def lines(directory: Path, kind: str) -> list[dict[str, Any]]:
    rows = map(json.loads, (directory / "cassette.jsonl").read_text("utf-8").split("\n")[:-1])
    return [row for row in rows if row["kind"] == kind]


def reseal(directory: Path, old: str, new: str, count: int = 1) -> None:
    """Change the first `old` in the lines (-1: each) into `new`, as somebody does who computes the digest again."""
    path = directory / LINES
    text = path.read_text("utf-8")
    body = text[: text.rindex('{"kind":"end"')]
    assert old in body
    changed = body.replace(old, new, count).encode()
    path.write_bytes(changed + end_line(changed))


def without_clock(directory: Path) -> dict[str, bytes]:
    """Every file of a cassette, timings blanked."""
    files = {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    rows = [json.loads(line) for line in files["cassette.jsonl"].split(b"\n")[:-1]]
    for row in rows:
        row.get("extraction", {}).pop("timings_ms", None)
    assert rows.pop()["kind"] == "end"
    return files | {"cassette.jsonl": json.dumps(rows).encode()}


def texts_of(results: Sequence[Extraction]) -> list[str]:
    return [result.to_json() for result in results]
