"""Answers about a post of a conversation: an `Answer` from a `RememberedPost`, for every interface.

The tools of the chat (`namepin.agent.chat.tools`) and of the MCP server (`namepin.agent.mcp`) call these functions, so
that both give the same answers.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from namepin.agent.api import Namepin
from namepin.agent.chat import phrasing
from namepin.agent.chat.single_tool import Coarse, ground_name, segment_box
from namepin.agent.chat.state import Answer, ChatContext, RememberedPost
from namepin.agent.posts import PICTURE_MISSING, Ready, make_post
from namepin.agent.render.tables import as_csv
from namepin.agent.render.view import KIND_WORDS, error_sentences, presence, printable, score
from namepin.agent.stores.pictures import Attachment
from namepin.graphs.step import StepEvent
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import LoadedImage
from namepin.tools.interfaces import Query
from namepin.tools.types import Box, Entity, Extraction, Post

Form = Literal["csv", "json", "table"]
LOAD = "load"
"""The step that builds the profile's tools, before the graph's steps."""


async def read(
    context: ChatContext,
    post_id: str,
    text: str,
    attached: Attachment,
    profile: str,
    overrides: Mapping[str, Any],
    on_step: Callable[[StepEvent], None] = lambda event: None,
) -> tuple[Answer, RememberedPost]:
    """Find the names of a post.

    Args:
        context: the profiles, and the store that holds the picture.
        post_id: the post's id.
        text: its text.
        attached: its picture; a picture that is not decoded by its deadline only makes the post `degraded` (W101).
        profile: the profile to read it with.
        overrides: settings that override the profile.
        on_step: called as each step begins and ends; the first one is `LOAD`.

    Raises:
        NamepinError: E10x for the text, E120 for a picture that is no longer stored, E200 for the profile; as
            `Namepin.aextract`.
    """
    on_step(StepEvent(LOAD, "started"))
    pin = await _pin(context, profile, overrides)
    on_step(StepEvent(LOAD, "finished"))
    picture, notices = await context.pictures.open_attached(attached)
    prepared = pin.ready(make_post({"id": post_id, "text": text}))
    heat: dict[int, bytes] = {}
    ready = Ready(prepared.post, picture, (*prepared.notices, *notices))
    async for event in pin.astream(ready, heat=heat):
        if isinstance(event, StepEvent):
            on_step(event)
        else:
            extraction = event
    if context.heat is not None and heat:
        await asyncio.to_thread(context.heat.keep, extraction, heat)
    return describe(extraction, profile), remember(extraction, profile, overrides)


def describe(extraction: Extraction, profile: str) -> Answer:
    """A post's result as an answer."""
    facts = {
        "names": [{"number": i, **_facts_of(entity)} for i, entity in enumerate(extraction.entities, 1)],
        "status": extraction.status,
        "warnings": [f"{w.code} {w.tool}: {w.message}" for w in extraction.warnings],
        "profile": profile,
    }
    sentence = phrasing.summary(extraction, profile)
    return Answer(kind="extraction", words=sentence, facts=facts, extraction=extraction)


async def explain(context: ChatContext, last: RememberedPost, which: str) -> Answer:
    """Explain one name's type, and why it is (not) in the picture.

    Raises:
        NamepinError: E330 when it is not clear which name is meant.
    """
    extraction = extraction_of(last)
    entity = extraction.entities[_index(extraction, which)]
    settings = (await asyncio.to_thread(context.pins.get, last["profile"], last["overrides"])).settings
    sentence = phrasing.explanation(entity, settings)
    facts = _facts_of(entity) | {
        "explanation": sentence,
        "gamma": settings.gate.gamma,
        "threshold": settings.match.threshold,
    }
    return Answer(kind="explanation", words=sentence, facts=facts)


async def ground(context: ChatContext, last: RememberedPost, name: str, label: Coarse | None) -> Answer:
    """Look for one name in the post's picture; a name of the post keeps its type.

    Raises:
        NamepinError: E330 when the post has no picture; as `ground_name`.
    """
    extraction = extraction_of(last)
    picture = await _picture(context, extraction)
    known = next((e for e in extraction.entities if e.text.casefold() == name.casefold()), None)
    pin = await _pin(context, last["profile"], last["overrides"])
    entity = await ground_name(pin, name, label or (known.label if known else "OTHER"), extraction, picture)
    sentence = f"{entity.text} ({KIND_WORDS[entity.label]}): {phrasing.where(entity)}."
    if entity.evidence:
        sentence += f" What was seen: {printable(entity.evidence)}."
    return Answer(kind="place", words=sentence, facts=_facts_of(entity))


async def segment(
    context: ChatContext, last: RememberedPost, which: str | None, box: tuple[float, float, float, float] | None
) -> tuple[Answer, RememberedPost | None]:
    """Mask a name's box or a given box. Only the mask of a name's box changes the post's extraction.

    Raises:
        NamepinError: E330 without such a name, box, picture or segmenter, or when nothing was found.
    """
    extraction = extraction_of(last)
    picture = await _picture(context, extraction)
    index = None if box else _index(extraction, which or "")
    if index is not None and extraction.entities[index].box is None:
        name, there = extraction.entities[index].text, presence(extraction.entities[index])
        why = {"no": "it is not in the picture", "yes": "its place is unknown"}.get(there, "no tool can see it")
        raise NamepinError("E330", f"{name!r} has no box: {why}", mend="ask why, or give a box")
    entity = None if index is None else extraction.entities[index]
    query = Query(text="region", label="OTHER", category="OTHER")
    if entity is not None:
        query = Query(text=entity.text, label=entity.label, category=entity.fine_label or entity.label)
    where: Box = entity.box if entity and entity.box else _check_box(box)
    pin = await _pin(context, last["profile"], last["overrides"])
    found = await segment_box(pin, where, query, picture)
    if found.mask is None:
        raise NamepinError("E330", "nothing could be segmented there", mend="give another box")
    pixels = int(found.mask.to_array().sum())
    sentence = f"Masked {entity.text if entity else 'the box'}: {pixels:,} pixels" + (
        f", the segmenter's confidence {found.score:.2f}." if found.score is not None else "."
    )
    facts = {"pixels": pixels, "box": found.box, "score": found.score}
    if entity is None or index is None:
        return Answer(kind="mask", words=sentence, facts=facts | {"mask": found.mask.model_dump(mode="json")}), None
    masked = entity.model_copy(update={"mask": found.mask, "mask_score": found.score})
    entities = tuple(masked if i == index else e for i, e in enumerate(extraction.entities))
    changed = extraction.model_copy(update={"entities": entities})
    answer = Answer(kind="mask", words=sentence, facts=facts, extraction=changed, about=index)
    return answer, remember(changed, last["profile"], last["overrides"])


async def compare(context: ChatContext, last: RememberedPost, profiles: Sequence[str]) -> Answer:
    """Read the post with several profiles, by default all offered ones, and show where they differ."""
    extraction = extraction_of(last)
    picture = await context.pictures.aopen(extraction.image) if extraction.image else None
    names = list(dict.fromkeys(profiles or context.pins.profiles))
    results, failed = {}, []
    for name in names:
        try:
            post = Ready(Post(id=extraction.id, text=extraction.text), picture)
            results[name] = await (await _pin(context, name, {})).aextract(post)
        except NamepinError as error:
            failed.append(f"{name} cannot run here. {error_sentences(error)}")
    table = phrasing.differences(list(results), list(results.values()))
    sentence = "\n".join([phrasing.as_markdown(table), *failed]) if results else "\n".join(failed)
    return Answer(kind="comparison", words=sentence, facts={"table": table, "failed": failed}, table=table)


def show(last: RememberedPost, form: Form) -> Answer:
    """The post's result as CSV, JSON or a table."""
    extraction = extraction_of(last)
    rows = rows_of(extraction)
    if form == "json":
        sentence = json.dumps(json.loads(extraction.to_json()), indent=2, ensure_ascii=False)
    elif form == "table":
        sentence = phrasing.as_markdown(rows)
    else:
        sentence = as_csv(rows)
    return Answer(kind="export", words=sentence, facts={form: sentence}, table=rows, extraction=extraction)


def attached_to(extraction: Extraction) -> Attachment:
    """The picture of a post that is read again; without the picture, it is `degraded` as before."""
    return Attachment(extraction.image, tuple(one for one in extraction.warnings if one.code == PICTURE_MISSING))


def extraction_of(last: RememberedPost) -> Extraction:
    """A remembered post's extraction."""
    return Extraction.model_validate(last["extraction"])


def remember(extraction: Extraction, profile: str, overrides: Mapping[str, Any]) -> RememberedPost:
    """A result in the form that a conversation stores."""
    return RememberedPost(extraction=json.loads(extraction.to_json()), profile=profile, overrides=dict(overrides))


async def _pin(context: ChatContext, profile: str, overrides: Mapping[str, Any]) -> Namepin:
    """The profile with its tools. They are built in a thread, so that a server answers while files are read."""
    pin = await asyncio.to_thread(context.pins.get, profile, overrides)
    await asyncio.to_thread(lambda: pin.calls)
    return pin


async def _picture(context: ChatContext, extraction: Extraction) -> LoadedImage:
    if extraction.image is None:
        raise NamepinError("E330", "the last post has no picture", mend="send the post again with its picture")
    return await context.pictures.aopen(extraction.image)


def _index(extraction: Extraction, which: str) -> int:
    index = phrasing.which(extraction.entities, which)
    if index is None:
        names = "; ".join(f"{i}. {e.text}" for i, e in enumerate(extraction.entities, 1)) or "none"
        raise NamepinError("E330", "it is not clear which name is meant", mend=f"name one by number: {names}")
    return index


def _check_box(box: tuple[float, float, float, float] | None) -> Box:
    if box is None or not (box[0] < box[2] and box[1] < box[3]):
        raise NamepinError(
            "E330", "the box is missing, empty or inverted", mend="give x1, y1, x2, y2 with x1 < x2, y1 < y2"
        )
    return box


def _facts_of(entity: Entity) -> dict[str, Any]:
    shown = {"text", "label", "fine_label", "type_uncertain", "groundable", "match_score", "box"}
    facts = entity.model_dump(mode="json", include=shown) | {"in_picture": presence(entity)}
    return facts | {"probability": score(entity), "has_mask": entity.mask is not None, "why": entity.evidence}


def rows_of(extraction: Extraction) -> list[dict[str, str]]:
    """A post's names as the rows of a table."""
    return [_row(entity) for entity in extraction.entities]


def _row(entity: Entity) -> dict[str, str]:
    return {
        "name": entity.text,
        "label": entity.label,
        "fine_label": entity.fine_label or "",
        "start": str(entity.start),
        "end": str(entity.end),
        "type_uncertain": "yes" if entity.type_uncertain else "no",
        "in_picture": presence(entity).replace("?", ""),
        "match_score": "" if entity.match_score is None else f"{entity.match_score:.4f}",
        "box": " ".join(f"{value:g}" for value in entity.box) if entity.box else "",
    }
