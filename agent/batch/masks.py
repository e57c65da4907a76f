"""Rows that are predictions: their entities in Namepin's form, to get masks."""

from functools import cache
from typing import Any, cast

from namepin.agent.api import Namepin
from namepin.agent.batch.source import Row
from namepin.agent.posts import Ready
from namepin.graphs import masks_only as masks
from namepin.graphs.run import extract_post
from namepin.graphs.text_nodes import Graph
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import clip_box
from namepin.tools.labels import ALIASES, COARSE4, COARSE8_TO_4, FINE_TO_COARSE4
from namepin.tools.text import tweet_tokens
from namepin.tools.types import Box, Entity, Extraction, token_offsets

MOST = 500
"""Largest number of entities per post."""


@cache
def _graph() -> Graph:
    return masks.build()


async def with_masks(pin: Namepin, row: Row, ready: Ready) -> Extraction:
    """The row's entities; entities with a box get a mask.

    Raises:
        NamepinError: E134, E136, E137 for an invalid entity.
    """
    tokens = ready.post.tokens or tweet_tokens(ready.post.text)
    offsets = token_offsets(ready.post.text, tokens)
    if len(row.given) > MOST:
        raise NamepinError("E134", f"{len(row.given)} entities, more than {MOST}", where=row.where)
    entities = sorted((_entity(item, ready, offsets, row) for item in row.given), key=lambda e: (e.start, e.end))
    post = ready.post.model_copy(update={"tokens": tokens, "text": ready.post.text})
    given = Ready(post, ready.picture, ready.notices)
    context, config = pin.context(given), pin.config(given)
    return await extract_post(
        _graph(), post, given.image, context, notices=given.notices, config=config, entities=tuple(entities)
    )


def _entity(item: Any, ready: Ready, offsets: tuple[tuple[int, int], ...], row: Row) -> Entity:
    mend = 'an entity is {"label", "start", "end" or "token_span", "box"}'
    try:
        if "start" in item:
            start, end = int(item["start"]), int(item["end"])
            first = next(i for i, offset in enumerate(offsets) if offset[0] == start)
            last = next(i for i, offset in enumerate(offsets) if offset[1] == end) + 1
        else:
            first, last = (int(value) for value in item["token_span"])
        if not 0 <= first < last <= len(offsets):
            raise NamepinError("E136", f"a span {first}:{last} outside the text", where=row.where, mend=mend)
        start, end = offsets[first][0], offsets[last - 1][1]
        label, fine = _types(str(item.get("fine_label") or item["label"]))
        box = item.get("box")
    except (KeyError, TypeError, ValueError, StopIteration, AttributeError) as error:
        what = f"an invalid entity: {type(error).__name__}"
        raise NamepinError("E134", what, where=row.where, mend=mend) from error
    fields = {"text": ready.post.text[start:end], "start": start, "end": end, "token_span": (first, last)}
    score = item.get("match_score")
    try:
        return Entity(
            **fields,
            label=cast(Any, label),
            fine_label=fine,
            groundable=box is not None if ready.picture else None,
            match_score=float(score) if score is not None else None,
            box=_box(box, ready) if box is not None and ready.picture else None,
            provenance=("given",),
        )
    except ValueError as error:
        raise NamepinError("E137", f"the box {box!r} of {fields['text']!r}: {error}"[:300], where=row.where) from error


def _box(box: Any, ready: Ready) -> Box:
    assert ready.image is not None
    x1, y1, x2, y2 = (float(value) for value in box)
    clipped = clip_box((x1, y1, x2, y2), (ready.image.width, ready.image.height))
    if clipped is None:
        raise ValueError("it is inverted, empty or outside the picture")
    return clipped


def _types(label: str) -> tuple[str, str | None]:
    label = COARSE8_TO_4.get(label, label)
    if label in COARSE4:
        return label, None
    fine = ALIASES.get(label, label)
    return FINE_TO_COARSE4[fine], fine
