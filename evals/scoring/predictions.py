"""A system's predictions on a data set: read from JSONL or from Extractions, and checked against the posts.

Nothing is dropped silently. An unreadable row is an error. A readable but impossible value (a span outside the text, an
inverted box) is listed as a problem and scored as wrong.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from namepin.evals.datasets.gold import Dataset, GoldPost, Problem, Span
from namepin.evals.datasets.lines import foreign_form
from namepin.evals.datasets.tags import is_tag
from namepin.evals.datasets.type_names import fine_type
from namepin.evals.scoring.predicted import Predicted, label_in, nowhere
from namepin.evals.scoring.tagged_rows import PredictionRow, entities_of_tags, is_tagged_text, rows_of_tags
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import Rectangle
from namepin.tools.jsonl import read_placed_rows
from namepin.tools.labels import ALIASES, COARSE4, COARSE8, FINE51
from namepin.tools.text import clean_text
from namepin.tools.types import Extraction, Mask, token_offsets


@dataclass(frozen=True)
class Predictions:
    """Checked predictions, by post id.

    `visual` and `with_masks` tell whether the system answered about the picture at all. If not, the tasks that need the
    picture are not evaluated, instead of scored as zero.

    Attributes:
        entities: the entities of every post that has a row.
        proposals: post id -> candidate boxes of a system that chooses among them (`regions` in the row).
        problems: all problems, with their places.
        missing: ids of the data set without a row.
        unknown: ids of rows that are not in the data set.
        failed: ids of posts whose row has the status `failed`.
        some_mask: whether any row has a mask, usable or not.
        tool_ms: milliseconds by tool, summed over the rows with timings.
        tool_tokens: (prompt, completion) tokens by tool, for calls of this run whose model reported them.
    """

    entities: Mapping[str, tuple[Predicted, ...]]
    proposals: Mapping[str, tuple[Rectangle, ...]]
    problems: tuple[Problem, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    some_mask: bool = False
    tool_ms: Mapping[str, float] = field(default_factory=dict)
    tool_tokens: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def visual(self) -> bool:
        """Whether any entity has an answer about the picture."""
        spoken = [p.groundable is not None or p.box is not None for ps in self.entities.values() for p in ps]
        return any(spoken) or not spoken

    @property
    def with_masks(self) -> bool:
        """Whether any entity has a mask, or all are predicted as not in the picture."""
        every = [p for ps in self.entities.values() for p in ps]
        return self.some_mask or (self.visual and not any(p.says_groundable for p in every))

    @property
    def fine(self) -> bool:
        """Whether any entity has one of the 51 types."""
        every = [p for ps in self.entities.values() for p in ps]
        return any(p.fine for p in every) or not every

    @property
    def coarse8(self) -> bool:
        """Whether any entity has one of the 8 types, directly or through its fine type."""
        every = [p for ps in self.entities.values() for p in ps]
        return any(label_in("fmnerg8", p) for p in every) or not every

    @property
    def cannot_tell_count(self) -> int:
        """Entities of which the matcher cannot tell whether they are in the picture."""
        return sum(p.cannot_tell for ps in self.entities.values() for p in ps)

    def read_unknown_as(self, groundable: bool) -> "Predictions":
        """The same predictions, with every "cannot tell" read as in the picture (at no place), or as not in it."""
        entities = {
            post: tuple(replace(p, groundable=groundable) if p.cannot_tell else p for p in ps)
            for post, ps in self.entities.items()
        }
        return replace(self, entities=entities)

    @property
    def unstated_count(self) -> int:
        """Entities without an answer about the picture, among others with one. They count as not in the picture."""
        every = [p for ps in self.entities.values() for p in ps]
        return sum(p.groundable is None and p.box is None for p in every) if self.visual else 0

    def without_regions(self) -> "Predictions":
        """The same entities, all predicted as not in the picture (`--visual none`)."""
        return replace(
            self,
            entities={
                post: tuple(replace(p, groundable=False, box=None, mask=None) for p in ps)
                for post, ps in self.entities.items()
            },
        )


def read_predictions(path: Path, dataset: Dataset, whole: Dataset | None = None) -> Predictions:
    """Predictions of a JSONL file with `id` and `entities` (or a tag per token, `tags`) in each row, or of CoNLL text.

    Args:
        path: the file.
        dataset: the gold that they are scored on.
        whole: the split that `dataset` is a part of (`--ids`); rows for its other posts are left out.

    Raises:
        NamepinError: E130 when the file cannot be read, E134 for an invalid row, E135 when an id occurs twice or no
            id is known.
    """
    try:
        form = foreign_form(path)
        tagged = not form and is_tagged_text(path)
    except OSError as error:
        raise NamepinError("E130", f"cannot read the file: {error.strerror}", where=str(path)) from error
    if form:
        raise NamepinError("E134", form, where=str(path))
    if tagged:
        rows = rows_of_tags(path, whole or dataset)
    else:
        mend = 'a row is {"id": ..., "entities": [{"label", "start", "end"}, ...]}'
        rows = list(read_placed_rows(path, _row, "a row of predictions", mend))
    return check(rows, dataset, (gold.post.id for gold in (whole or dataset).posts))


def from_extractions(extractions: Iterable[Extraction], dataset: Dataset) -> Predictions:
    """Predictions from a run of the graph."""
    return check([(f"post {e.id}", e.model_dump(mode="python")) for e in extractions], dataset)


def _row(row: PredictionRow) -> PredictionRow:
    if "entities" not in row and isinstance(row.get("tags"), list):
        tags = [str(tag) for tag in row["tags"]]
        broken = next((tag for tag in tags if not is_tag(tag)), None)
        if broken is not None:
            raise ValueError(f"{broken!r} is not a tag such as B-PER")
        row["entities"] = entities_of_tags(tags)
    if not isinstance(row.get("entities"), list) or type(row.get("id")) not in (str, int):
        raise ValueError("it lacks a list of `entities`, or an `id` that is text or a whole number")
    return row


def check(
    rows: Sequence[tuple[str, Mapping[str, Any]]], dataset: Dataset, known_ids: Iterable[str] | None = None
) -> Predictions:
    """Rows, each with its place, as predictions on `dataset`; see `read_predictions`.

    Rows whose id is among `known_ids` but not in `dataset` are left out; any other is a problem.
    """
    posts = {gold.post.id: gold for gold in dataset.posts}
    elsewhere = set(known_ids or ()) - posts.keys()
    problems: list[Problem] = []
    entities: dict[str, tuple[Predicted, ...]] = {}
    proposals: dict[str, tuple[Rectangle, ...]] = {}
    unknown, failed = [], []
    for where, row in rows:
        post_id = str(row["id"])
        if post_id in entities:
            raise NamepinError(
                "E135", f"post id {post_id!r} is predicted twice", where=where, mend="keep one row a post"
            )
        if post_id in elsewhere:
            continue
        if post_id not in posts:
            unknown.append(post_id)
            problems.append(Problem("E135", where, f"post id {post_id!r} is not in the data; the row is not scored"))
            continue
        if row.get("status") == "failed":
            failed.append(post_id)
            problems.append(Problem("W100", where, f"the post failed, its entities count as missed: {_reason(row)}"))
        reader = _RowReader(posts[post_id], row, where, problems)
        reader.check_tags()
        entities[post_id] = tuple(reader.entity(i, item) for i, item in enumerate(row["entities"]))
        if row.get("regions") is not None:
            proposals[post_id] = tuple(box for box in map(_finite_box, row["regions"]) if box)
    if rows and not entities:
        mend = "check --dataset, --root and --split"
        raise NamepinError("E135", f"none of the {len(rows)} predicted post ids is in the data", mend=mend)
    missing = tuple(post_id for post_id in posts if post_id not in entities)
    problems += [
        Problem("E135", dataset.title, f"post {i!r} has no prediction: its entities are missed") for i in missing
    ]
    some_mask = any(item.get("mask") is not None for _, row in rows for item in row["entities"])
    tool_ms: Counter[str] = Counter()
    for _, row in rows:
        timings = row.get("timings_ms")
        tool_ms.update({t: ms for t, ms in timings.items() if _finite(ms)} if isinstance(timings, Mapping) else {})
    return Predictions(
        entities, proposals, tuple(problems), missing, tuple(unknown), tuple(failed), some_mask, dict(tool_ms)
    )


def _reason(row: Mapping[str, Any]) -> str:
    """The reason why a post failed, from its result."""
    warnings = [warning for warning in row.get("warnings") or () if isinstance(warning, Mapping)]
    return str(warnings[-1].get("message")) if warnings else "no reason given"


@dataclass(frozen=True)
class _RowReader:
    """Reads the entities of one row against its gold post, and lists their problems."""

    gold: GoldPost
    row: Mapping[str, Any]
    where: str
    problems: list[Problem]

    def check_tags(self) -> None:
        """Check that a row has one tag per token of the post.

        Raises:
            NamepinError: E134 when it has more or fewer.
        """
        tags, tokens = self.row.get("tags"), self.gold.post.tokens or self.gold.post.text.split()
        if isinstance(tags, list) and len(tags) != len(tokens):
            raise NamepinError("E134", f"{len(tags)} tags for {len(tokens)} tokens", where=self.where)

    def note(self, code: str, number: int, what: str) -> None:
        self.problems.append(Problem(code, f"{self.where}, entity {number}", what))

    def entity(self, number: int, item: Any) -> Predicted:
        if not isinstance(item, Mapping) or not isinstance(item.get("label"), str):
            raise NamepinError("E134", "an entity lacks its `label`", where=f"{self.where}, entity {number}")
        span = self.span(number, item)
        label, fine = self.types(number, item)
        groundable = item.get("groundable")
        if groundable is not None and not isinstance(groundable, bool):
            raise NamepinError("E134", f"`groundable` is {groundable!r}", where=f"{self.where}, entity {number}")
        given = item.get("scores")
        scores = {k: p for k, p in given.items() if _finite(p) is not None} if isinstance(given, Mapping) else {}
        box, mask = self.box(number, item.get("box")), self.mask(number, item.get("mask"))
        if groundable is None and (item.get("box") is not None or item.get("mask") is not None):
            groundable = True
        text = self.gold.post.text[span[0] : span[1]] if span[0] >= 0 else str(item.get("text", ""))
        match_score, entropy = _finite(item.get("match_score")), _finite(item.get("entropy"))
        reranked = item.get("reranked") is True
        tools = item.get("provenance")
        unknown = groundable is None and isinstance(tools, list | tuple) and "matcher" in tools
        stated = False if unknown else groundable  # as the graph's default, `match.unknown = "absent"`
        return Predicted(span, text, label, fine, stated, box, mask, match_score, scores, entropy, reranked, unknown)

    def span(self, number: int, item: Mapping[str, Any]) -> Span:
        text = self.gold.post.text
        tokens = self.gold.post.tokens or tuple(text.split())
        given_and_gold: tuple[Any, Any]
        if _is_span((item.get("start"), item.get("end"))):
            span = (item["start"], item["end"])
            given_and_gold = (self.row.get("text", text), {text, clean_text(text)})
        elif _is_span(item.get("token_span")):
            first, end = item["token_span"]
            offsets = token_offsets(text, tokens)
            inside = 0 <= first < end <= len(offsets)
            span = (offsets[first][0], offsets[end - 1][1]) if inside else nowhere(number)
            given_and_gold = (tuple(self.row.get("tokens") or tokens), {tokens, tuple(clean_text(text).split(" "))})
        else:
            mend = "give `start` and `end`, or `token_span`, as whole numbers"
            raise NamepinError("E134", "an entity has no span", where=f"{self.where}, entity {number}", mend=mend)
        if not 0 <= span[0] < span[1] <= len(text):
            self.note("E136", number, "the span is empty or lies outside the text; it counts as a wrong prediction")
            return nowhere(number)
        if given_and_gold[0] not in given_and_gold[1]:
            self.note("E136", number, "the row's text is not the gold text, so its offsets mean another place; wrong")
            return nowhere(number)
        return span

    def types(self, number: int, item: Mapping[str, Any]) -> tuple[str, str | None]:
        label, fine = _usual_label(item["label"]), item.get("fine_label")
        fine = fine_type(fine) or fine if isinstance(fine, str) else None
        if fine is None and ALIASES.get(label, label) in FINE51:
            fine = ALIASES.get(label, label)
        if fine is not None and fine not in FINE51:
            self.note("E138", number, f"fine label {fine!r} is none of the 51 types; it counts as a wrong type")
        if label not in COARSE4 and label not in COARSE8 and ALIASES.get(label, label) not in FINE51:
            self.note("E138", number, f"label {label!r} is not in the scheme; it counts as a wrong type")
        return label, fine

    def box(self, number: int, value: Any) -> Rectangle | None:
        if value is None:
            return None
        box = _finite_box(value)
        if box is None:
            self.note("E137", number, f"box {value!r} is inverted, empty or not four numbers; it matches no region")
        elif self.gold.size and (min(box) < 0 or box[2] > self.gold.size[0] or box[3] > self.gold.size[1]):
            self.note("E137", number, f"box {value!r} leaves the picture; it is scored as given")
        return box

    def mask(self, number: int, value: Any) -> Mask | None:
        if value is None:
            return None
        try:
            mask = Mask.model_validate(value)
        except ValueError:
            self.note("E137", number, "the mask is not COCO's run-length encoding; it matches no region")
            return None
        sizes = {m.size for entity in self.gold.entities for m in entity.masks or ()}
        if sizes and mask.size not in sizes:
            self.note(
                "E137", number, f"the mask is {mask.size}, the gold masks are {sorted(sizes)}; it matches no region"
            )
            return None
        return mask


def _usual_label(name: str) -> str:
    """A label in the spelling of our schemes: the 4 and the 51 types in any case, and MISC. Others are unchanged."""
    if name in COARSE8 or ALIASES.get(name, name) in FINE51:
        return name
    upper = name.strip().upper()
    return "OTHER" if upper == "MISC" else upper if upper in COARSE4 else fine_type(name) or name


def _is_span(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2 and all(type(x) is int for x in value)


def _finite(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _finite_box(value: Any) -> Rectangle | None:
    """Four finite numbers with x1 < x2 and y1 < y2, or None."""
    if not isinstance(value, Sequence) or len(value) != 4 or not all(type(x) in (int, float) for x in value):
        return None
    x1, y1, x2, y2 = map(float, value)
    return (x1, y1, x2, y2) if all(map(math.isfinite, (x1, y1, x2, y2))) and x1 < x2 and y1 < y2 else None


def repeats(predictions: Predictions) -> int:
    """Predicted entities at the span of an earlier prediction of the same post."""
    return sum(
        count - 1
        for entities in predictions.entities.values()
        for span, count in Counter(p.span for p in entities).items()
        if span[0] >= 0
    )
