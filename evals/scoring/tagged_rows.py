"""Predictions as tags: CoNLL text with the prediction in the last column, or a list of tags in a JSONL row."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from namepin.evals.datasets.conll import read_tagged_posts
from namepin.evals.datasets.gold import Dataset
from namepin.evals.datasets.tags import is_tag, spans_of_tags
from namepin.tools.errors import NamepinError

PredictionRow = dict[str, Any]


def entities_of_tags(tags: Sequence[str]) -> list[dict[str, Any]]:
    """The entities of a row; tags are read as in seqeval."""
    return [{"label": label, "token_span": [first, end]} for first, end, label in spans_of_tags(tags)[0]]


def is_tagged_text(path: Path) -> bool:
    """Whether a file of predictions is CoNLL text: it does not begin with a JSON value, and is not named `.jsonl`."""
    with path.open("rb") as file:
        head = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
    line = head.partition(b"\n")[0]
    return path.suffix not in (".jsonl", ".json") and bool(head) and (line[:1] not in b"{[" or b"\t" in line)


def rows_of_tags(path: Path, dataset: Dataset) -> list[tuple[str, PredictionRow]]:
    """The rows of CoNLL text, each with its place. Posts without `IMGID:` lines must be the data set's, in its order.

    Raises:
        NamepinError: E134 for an invalid line or tag, or when posts without ids are not the data set's.
    """
    posts, problems = read_tagged_posts(path, 1, head="optional")
    fatal = next((problem for problem in problems if problem.fatal), None)
    if fatal:
        raise NamepinError("E134", fatal.what, where=fatal.where)
    named = any(not post.id.startswith(f"{path.stem}-") for post in posts)
    if not named and len(posts) != len(dataset.posts):
        what = f"{len(posts)} posts without IMGID lines, the data set has {len(dataset.posts)}"
        raise NamepinError("E134", what, where=str(path), mend="give each post its IMGID line")
    rows = []
    for number, post in enumerate(posts):
        tags = post.columns[0]
        broken = next((i for i, tag in enumerate(tags) if not is_tag(tag)), None)
        if broken is not None:
            where = f"{path}:{post.line + broken}"
            raise NamepinError("E134", f"{tags[broken]!r} is not a tag such as B-PER", where=where)
        post_id = post.id if named else dataset.posts[number].post.id
        row = {"id": post_id, "tokens": list(post.tokens), "entities": entities_of_tags(tags)}
        rows.append((f"{path}:{post.line}", row))
    return rows
