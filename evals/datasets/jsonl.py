"""Any folder of JSONL: `SPLIT.jsonl`, one `{"id", "text" | "tokens", "image", "entities": [...]}` a line.

An entity is `{"label", "start", "end"}` or `{"label", "token_span"}`, and may add `fine_label`, `boxes` and `masks`
(lists, empty for "not in the picture"). `size` is the picture's (width, height). The sandbox is such a folder. Pictures
are relative to the file.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from namepin.evals.datasets.conll import split_file
from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost, Problem
from namepin.tools.errors import NamepinError
from namepin.tools.labels import FINE51
from namepin.tools.types import Box, Mask, Post, token_offsets


class _Entity(BaseModel):
    model_config = ConfigDict(extra="ignore")
    label: Literal["PER", "LOC", "ORG", "OTHER"]
    fine_label: str | None = None
    start: int | None = None
    end: int | None = None
    token_span: tuple[int, int] | None = None
    boxes: tuple[Box, ...] | None = None
    masks: tuple[Mask, ...] | None = None


class _Row(Post):
    model_config = ConfigDict(extra="ignore")
    entities: tuple[_Entity, ...]
    size: tuple[int, int] | None = None


def read(root: Path, split: str) -> Dataset:
    """One split.

    Raises:
        NamepinError: E130 when the folder or the split is missing.
    """
    path = split_file(root, f"{split}.jsonl")
    posts: dict[str, GoldPost] = {}
    problems: list[Problem] = []
    for found in _stream(path):
        if isinstance(found, Problem):
            problems.append(found)
        elif found.post.id in posts:
            problems.append(Problem("E131", found.where, f"post id {found.post.id!r} occurs twice", fatal=True))
        else:
            posts[found.post.id] = found
    entities = [entity for gold in posts.values() for entity in gold.entities]
    problems += [
        Problem("E132", gold.where, f"fine type {entity.fine!r} is not in the scheme", loses="type")
        for gold in posts.values()
        for entity in gold.entities
        if entity.fine is not None and entity.fine not in FINE51
    ]
    return Dataset(
        name="jsonl",
        split=split,
        scheme="gmner4",
        release=f"{root.resolve().name} {split}",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        posts=tuple(posts.values()),
        problems=tuple(problems),
        has_boxes=any(entity.boxes is not None for entity in entities),
        has_masks=any(entity.masks is not None for entity in entities),
        has_fine=any(entity.fine is not None for entity in entities),
        has_images=any(gold.post.image for gold in posts.values()),
    )


def posts(root: Path, split: str) -> Iterator[tuple[str, Post]]:
    """A split's posts as a stream, without their gold.

    Raises:
        NamepinError: E130 when the folder or the split is missing, E131 at the first line that is no post.
    """
    for found in _stream(split_file(root, f"{split}.jsonl")):
        if isinstance(found, Problem):
            raise NamepinError(found.code, found.what, where=found.where, mend="mend the file")
        yield found.where, found.post


def _stream(path: Path) -> Iterator[GoldPost | Problem]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{path}:{number}"
            try:
                yield _gold(_Row.model_validate(json.loads(line)), path, number)
            except ValidationError as error:
                detail = error.errors()[0]
                what = f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}"
                yield Problem("E131", where, what, fatal=True)
            except ValueError as error:
                yield Problem("E131", where, str(error), fatal=True)


def _gold(row: _Row, path: Path, number: int) -> GoldPost:
    tokens = row.tokens or tuple(row.text.split())
    offsets = token_offsets(row.text, tokens)
    starts = {start: i for i, (start, _) in enumerate(offsets)}
    ends = {end: i + 1 for i, (_, end) in enumerate(offsets)}
    entities = []
    for entity in row.entities:
        if entity.start is not None and entity.end is not None:
            span = (entity.start, entity.end)
        elif entity.token_span and 0 <= entity.token_span[0] < entity.token_span[1] <= len(offsets):
            span = (offsets[entity.token_span[0]][0], offsets[entity.token_span[1] - 1][1])
        else:
            raise ValueError(f"entity {entity.label} has neither start and end nor a token_span within the text")
        if not 0 <= span[0] < span[1] <= len(row.text):
            raise ValueError(f"span {span} lies outside the {len(row.text)} characters of the text")
        token_span = entity.token_span or (starts.get(span[0], -1), ends.get(span[1], -1))
        text = row.text[slice(*span)]
        entities.append(GoldEntity(text, span, token_span, entity.label, entity.fine_label, entity.boxes, entity.masks))
    image = str(path.parent / row.image) if row.image else None
    post = Post(id=row.id, text=row.text, tokens=row.tokens, image=image, extra=row.extra)
    return GoldPost(post, tuple(sorted(entities, key=lambda entity: entity.span)), row.size, where=f"{path}:{number}")
