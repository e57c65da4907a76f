"""A post with its gold as a JSONL row: the common form for converting data sets.

An entity is `{"label", "start", "end"}` or `{"label", "token_span"}`, and may add `fine_label`, `boxes` and `masks`
(lists, empty for "not in the picture"). `size` is the picture's (width, height). Other keys of a row become `extra`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost, Problem
from namepin.evals.datasets.type_names import coarse_type, fine_type
from namepin.tools.jsonl import reason
from namepin.tools.labels import COARSE8_TO_4, FINE51
from namepin.tools.types import Box, Mask, Post, token_offsets

PostRow = dict[str, Any]
"""A row as JSON."""


class _EntityRow(BaseModel):
    model_config = ConfigDict(extra="ignore")
    label: Literal["PER", "LOC", "ORG", "OTHER"]
    fine_label: str | None = None
    start: int | None = None
    end: int | None = None
    token_span: tuple[int, int] | None = None
    boxes: tuple[Box, ...] | None = None
    masks: tuple[Mask, ...] | None = None


class _GoldRow(Post):
    model_config = ConfigDict(extra="ignore")
    entities: tuple[_EntityRow, ...]
    size: tuple[int, int] | None = None


def gold_of(data: Any, folder: Path, where: str) -> GoldPost:
    """A row as a gold post.

    Args:
        data: the row.
        folder: the folder that the picture's path is relative to.
        where: the row's place, for messages.

    Raises:
        ValueError: when the row is invalid.
    """
    row = _GoldRow.model_validate(_usual(data) if isinstance(data, Mapping) else data)
    offsets = token_offsets(row.text, row.tokens or tuple(row.text.split()))
    entities = sorted((_entity(entity, row.text, offsets) for entity in row.entities), key=lambda found: found.span)
    image = str(folder / row.image) if row.image else None
    post = Post(id=row.id, text=row.text, tokens=row.tokens, image=image, extra=row.extra)
    return GoldPost(post, tuple(entities), row.size, where=where)


def _entity(entity: _EntityRow, text: str, offsets: tuple[tuple[int, int], ...]) -> GoldEntity:
    if entity.start is not None and entity.end is not None:
        span = (entity.start, entity.end)
    elif entity.token_span and 0 <= entity.token_span[0] < entity.token_span[1] <= len(offsets):
        span = (offsets[entity.token_span[0]][0], offsets[entity.token_span[1] - 1][1])
    else:
        raise ValueError(f"entity {entity.label} has neither start and end nor a token_span within the text")
    if not 0 <= span[0] < span[1] <= len(text):
        raise ValueError(f"span {span} lies outside the {len(text)} characters of the text")
    words = text[slice(*span)]
    tokens = entity.token_span or token_span(span, offsets)
    return GoldEntity(words, span, tokens, entity.label, entity.fine_label, entity.boxes, entity.masks)


def token_span(span: tuple[int, int], offsets: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The (first, end) tokens of a span; -1 where it begins or ends within a token."""
    first = next((i for i, (start, _) in enumerate(offsets) if start == span[0]), -1)
    end = next((i + 1 for i, (_, end) in enumerate(offsets) if end == span[1]), -1)
    return first, end


def _usual(data: Mapping[str, Any]) -> PostRow:
    """The row in its normal form: text ids, known spellings of types, lists of regions, other keys in `extra`."""
    row = {key: value for key, value in data.items() if key in _GoldRow.model_fields}
    extra = {key: value for key, value in data.items() if key not in _GoldRow.model_fields}
    given = row.get("extra", {})
    if extra and isinstance(given, Mapping):
        row["extra"] = {**given, **extra}
    if type(row.get("id")) is int:
        row["id"] = str(row["id"])
    if isinstance(row.get("entities"), list):
        row["entities"] = [_usual_entity(item) if isinstance(item, Mapping) else item for item in row["entities"]]
    return row


def _usual_entity(item: Mapping[str, Any]) -> PostRow:
    entity = dict(item)
    label, fine = entity.get("label"), entity.get("fine_label")
    if isinstance(label, str):
        entity["label"] = coarse_type(label) or label
        if fine is None and coarse_type(label) and label.lower() != "other":
            entity["fine_label"] = fine_type(label)
    if isinstance(fine, str):
        entity["fine_label"] = fine_type(fine) or fine
    for one, many in (("box", "boxes"), ("mask", "masks")):  # the keys in results of a run
        if many not in entity and entity.get(one) is not None:
            entity[many] = [entity[one]]
        elif many not in entity and one in entity and entity.get("groundable") is False:
            entity[many] = []
    return entity


def row_of(gold: GoldPost, root: Path | None = None) -> PostRow:
    """A gold post as a row. FMNERG's 8 types become the 4 types, and stay recoverable from the fine label.

    Args:
        gold: the post.
        root: the data set's folder. A picture's path within it is written relative to it. Without `root`, only the
            picture's name is written.
    """
    entities = []
    for entity in gold.entities:
        row: PostRow = {"start": entity.span[0], "end": entity.span[1], "token_span": list(entity.token_span)}
        row["label"] = COARSE8_TO_4.get(entity.label, entity.label)
        if entity.fine:
            row["fine_label"] = entity.fine
        if entity.boxes is not None:
            row["boxes"] = [list(box) for box in entity.boxes]
        if entity.masks is not None:
            row["masks"] = [mask.model_dump(mode="json") for mask in entity.masks]
        entities.append(row)
    image = _relative(gold.post.image, root) if gold.post.image else None
    post: PostRow = {"id": gold.post.id, "text": gold.post.text, "image": image, "entities": entities}
    if gold.post.tokens:
        post["tokens"] = list(gold.post.tokens)
    if gold.size:
        post["size"] = list(gold.size)
    if gold.post.extra:
        post["extra"] = dict(gold.post.extra)
    return post


def _relative(image: str, root: Path | None) -> str:
    path = Path(image)
    if root is None:
        return path.name
    return PurePosixPath(path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


@dataclass
class SplitCollector:
    """Collects the posts of one split and their problems while they are read.

    Attributes:
        name: the data set's name for `--dataset`.
        split: the split's name as given by the user.
        root: the data set's folder.
        fatal: whether an invalid row makes the split unusable; else it is listed and left out.
    """

    name: str
    split: str
    root: Path
    fatal: bool
    posts: dict[str, GoldPost] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add_row(self, data: Any, folder: Path, where: str) -> None:
        """Add a row; an invalid one is listed as a problem."""
        try:
            self.add(gold_of(data, folder, where))
        except (ValueError, RecursionError) as error:
            self.problem("E131", where, reason(error), fatal=self.fatal)

    def add(self, gold: GoldPost) -> None:
        """Add a post; one with a repeated id is listed as a problem."""
        if gold.post.id in self.posts:
            what = f"post id {gold.post.id!r} occurs twice" + ("" if self.fatal else "; the first is kept")
            self.problem("E131", gold.where, what, fatal=self.fatal)
            return
        self.posts[gold.post.id] = gold
        for entity in gold.entities:
            if entity.fine is not None and entity.fine not in FINE51:
                self.problem("E132", gold.where, f"fine type {entity.fine!r} is not in the scheme", loses="type")
        if gold.post.image and not Path(gold.post.image).is_file():
            self.problem("W130", gold.where, f"picture {gold.post.image} is missing")

    def problem(
        self,
        code: str,
        where: str,
        what: str,
        *,
        fatal: bool = False,
        loses: Literal["", "type", "boxes", "masks"] = "",
    ) -> None:
        """Add a problem."""
        self.problems.append(Problem(code, where, what, fatal, loses))

    def dataset(self, sha256: str) -> Dataset:
        """The split. If no post could be read, the first problem is fatal."""
        entities = [entity for gold in self.posts.values() for entity in gold.entities]
        problems = list(self.problems)
        if not self.posts and problems and not any(problem.fatal for problem in problems):
            problems[0] = replace(problems[0], fatal=True)
        return Dataset(
            name=self.name,
            split=self.split,
            scheme="gmner4",
            release=f"{self.root.resolve().name} {self.split}",
            sha256=sha256,
            posts=tuple(self.posts.values()),
            problems=tuple(problems),
            has_boxes=any(entity.boxes is not None for entity in entities),
            has_masks=any(entity.masks is not None for entity in entities),
            has_fine=any(entity.fine is not None for entity in entities),
            has_images=any(gold.post.image for gold in self.posts.values()),
        )
