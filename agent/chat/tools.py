"""The tools a conversation has: validated arguments, structured answers, and no way to name a file or an address.

Each returns an `Answer` beside the message that a model reads, so that every surface shows the same numbers. What a
tool cannot do it says in its answer; the conversation goes on.
"""

import csv
import io
import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any, Literal

from langchain.tools import ToolRuntime, tool
from langchain_core.messages import ToolMessage
from langgraph.types import Command
from pydantic import Field

from agent.chat import words
from agent.chat.single import ground_name, segment_box
from agent.chat.state import MAX_SEEN, Answer, ChatContext, ChatState, Seen
from agent.posts import Ready
from agent.render.view import printable, score
from tools.errors import NamepinError
from tools.images import LoadedImage
from tools.interfaces import Query
from tools.types import Box, Entity, Extraction, ImageRef, Post

Runtime = ToolRuntime[ChatContext, ChatState]
Which = Annotated[
    str, Field(max_length=300, description="Which name of the last post: its number (1 is the first), or its text.")
]
MAX_TEXT = 8000


def _answering(work: Callable[..., Awaitable[tuple[Answer, Seen | None]]]) -> Callable[..., Awaitable[Command[Any]]]:
    """Turn what a tool found into the conversation's next state; a coded error becomes an answer that says so."""

    @wraps(work)
    async def run(*args: Any, runtime: Runtime, **kwargs: Any) -> Command[Any]:
        seen: Seen | None = None
        try:
            answer, seen = await work(*args, runtime=runtime, **kwargs)
        except NamepinError as error:
            answer = Answer(kind="refusal", words=str(error), facts={"error": str(error)})
        message = ToolMessage(
            json.dumps(answer.facts or {"answer": answer.words}, ensure_ascii=False),
            artifact=answer.model_dump(mode="json"),
            tool_call_id=runtime.tool_call_id or "",
            name=work.__name__,
            status="error" if answer.kind == "refusal" else "success",
        )
        update: dict[str, Any] = {"messages": [message]}
        if seen is not None:
            update["seen"] = [*runtime.state.get("seen", []), seen][-MAX_SEEN:]
        if work.__name__ == "extract":
            update["picture"] = None
        return Command(update=update)

    return run


@tool
@_answering
async def extract(
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT, description="The post's text, word for word.")],
    runtime: Runtime,
) -> tuple[Answer, Seen | None]:
    """Find the names of a post, their types, and where they are in the picture that came with the message."""
    context, attached = runtime.context, runtime.state.get("picture")
    ref = ImageRef.model_validate(attached) if attached else None
    return await _read(text, ref, context.profile, dict(context.overrides), runtime)


@tool
@_answering
async def rerun(
    gamma: Annotated[float, Field(ge=0, le=4, description="The entropy gate's threshold in nats.")], runtime: Runtime
) -> tuple[Answer, Seen | None]:
    """Read the last post again with another threshold of the entropy gate."""
    last, extraction = _last(runtime)
    overrides = {**last["overrides"], "gate": {**last["overrides"].get("gate", {}), "gamma": gamma}}
    return await _read(extraction.text, extraction.image, last["profile"], overrides, runtime)


@tool
@_answering
async def explain(which: Which, runtime: Runtime) -> tuple[Answer, Seen | None]:
    """Explain a decision on a name of the last post: why this type, why (not) in the picture, which tools took part."""
    last, extraction = _last(runtime)
    entity = extraction.entities[_index(extraction, which)]
    settings = runtime.context.pins.get(last["profile"], last["overrides"]).settings
    said = words.explanation(entity, settings)
    facts = _facts_of(entity) | {
        "explanation": said,
        "gamma": settings.gate.gamma,
        "threshold": settings.match.threshold,
    }
    return Answer(kind="explanation", words=said, facts=facts), None


@tool
@_answering
async def ground(
    name: Annotated[str, Field(min_length=1, max_length=200, description="The name to look for.")],
    runtime: Runtime,
    label: Annotated[Literal["PER", "LOC", "ORG", "OTHER"] | None, Field(description="Its type, if known.")] = None,
) -> tuple[Answer, Seen | None]:
    """Look for one name in the last post's picture, also for one that was not found in the text."""
    last, extraction = _last(runtime)
    picture = _picture(extraction, runtime)
    known = next((e for e in extraction.entities if e.text.casefold() == name.casefold()), None)
    pin = runtime.context.pins.get(last["profile"], last["overrides"])
    entity = await ground_name(pin, name, label or (known.label if known else "OTHER"), extraction, picture)
    said = f"{entity.text} (as {entity.label}): {words.where(entity)}."
    if entity.evidence:
        said += f" What was seen: {printable(entity.evidence)}."
    return Answer(kind="place", words=said, facts=_facts_of(entity)), None


@tool
@_answering
async def segment(
    runtime: Runtime,
    which: Which | None = None,
    box: Annotated[
        tuple[float, float, float, float] | None, Field(description="x1, y1, x2, y2 in pixels of the picture.")
    ] = None,
) -> tuple[Answer, Seen | None]:
    """Mask one box of the last post's picture: that of a name, or one given in pixels."""
    last, extraction = _last(runtime)
    picture = _picture(extraction, runtime)
    index = None if box else _index(extraction, which or "")
    if index is not None and extraction.entities[index].box is None:
        name = extraction.entities[index].text
        raise NamepinError("E330", f"{name!r} has no box: it is not in the picture", mend="ask why, or give a box")
    entity = None if index is None else extraction.entities[index]
    query = Query(text="region", label="OTHER", category="OTHER")
    if entity is not None:
        query = Query(text=entity.text, label=entity.label, category=entity.fine_label or entity.label)
    where: Box = entity.box if entity and entity.box else _checked(box)
    pin = runtime.context.pins.get(last["profile"], last["overrides"])
    found = await segment_box(pin, where, query, picture)
    if found.mask is None:
        raise NamepinError("E330", "nothing could be segmented there", mend="give another box")
    pixels = int(found.mask.to_array().sum())
    said = f"Masked {entity.text if entity else 'the box'}: {pixels:,} pixels" + (
        f", the segmenter's confidence {found.score:.2f}." if found.score is not None else "."
    )
    facts = {"pixels": pixels, "box": found.box, "score": found.score}
    if entity is None or index is None:
        return Answer(kind="mask", words=said, facts=facts | {"mask": found.mask.model_dump(mode="json")}), None
    masked = entity.model_copy(update={"mask": found.mask, "mask_score": found.score})
    entities = tuple(masked if i == index else e for i, e in enumerate(extraction.entities))
    changed = extraction.model_copy(update={"entities": entities})
    seen = Seen(extraction=json.loads(changed.to_json()), profile=last["profile"], overrides=last["overrides"])
    return Answer(kind="mask", words=said, facts=facts, extraction=changed), seen


@tool
@_answering
async def compare(
    runtime: Runtime,
    profiles: Annotated[list[str] | None, Field(max_length=4, description="Profiles; none for all on offer.")] = None,
) -> tuple[Answer, Seen | None]:
    """Read the last post with several profiles and show where they differ."""
    _, extraction = _last(runtime)
    names = list(dict.fromkeys(profiles or runtime.context.pins.profiles))
    results, failed = {}, []
    for name in names:
        try:
            results[name] = await runtime.context.pins.get(name).aextract(_ready(extraction, runtime))
        except NamepinError as error:
            failed.append(f"{name} cannot run here: {error}")
    table = words.differences(list(results), list(results.values()))
    said = "\n".join([words.as_markdown(table), *failed]) if results else "\n".join(failed)
    return Answer(kind="comparison", words=said, facts={"table": table, "failed": failed}, table=table), None


@tool
@_answering
async def show(
    runtime: Runtime, form: Annotated[Literal["csv", "json", "table"], Field(description="How to write it.")] = "table"
) -> tuple[Answer, Seen | None]:
    """Write the last post's result as CSV, JSON or a table."""
    _, extraction = _last(runtime)
    rows = [_row(entity) for entity in extraction.entities]
    if form == "json":
        said = json.dumps(json.loads(extraction.to_json()), indent=2, ensure_ascii=False)
    elif form == "table":
        said = words.as_markdown(rows)
    else:
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["name"], lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _harmless(value) for key, value in row.items()} for row in rows)
        said = file.getvalue()
    return Answer(kind="export", words=said, facts={form: said}, table=rows, extraction=extraction), None


TOOLS = (extract, rerun, explain, ground, segment, compare, show)


async def _read(
    text: str, ref: ImageRef | None, profile: str, overrides: dict[str, Any], runtime: Runtime
) -> tuple[Answer, Seen | None]:
    pin = runtime.context.pins.get(profile, overrides)
    picture = runtime.context.pictures.open(ref) if ref else None
    number = len(runtime.state.get("seen", [])) + 1
    prepared = pin.ready(Post(id=f"post-{number}", text=text))
    extraction = await pin.aextract(Ready(prepared.post, picture, prepared.notices))
    facts = {
        "names": [{"number": i, **_facts_of(entity)} for i, entity in enumerate(extraction.entities, 1)],
        "status": extraction.status,
        "warnings": [f"{w.code} {w.tool}: {w.message}" for w in extraction.warnings],
        "profile": profile,
    }
    seen = Seen(extraction=json.loads(extraction.to_json()), profile=profile, overrides=overrides)
    said = words.summary(extraction, profile)
    return Answer(kind="extraction", words=said, facts=facts, extraction=extraction), seen


def _last(runtime: Runtime) -> tuple[Seen, Extraction]:
    posts = runtime.state.get("seen", [])
    if not posts:
        raise NamepinError("E330", "there is no post in this conversation yet", mend="send one first")
    return posts[-1], Extraction.model_validate(posts[-1]["extraction"])


def _ready(extraction: Extraction, runtime: Runtime) -> Ready:
    picture = runtime.context.pictures.open(extraction.image) if extraction.image else None
    return Ready(Post(id=extraction.id, text=extraction.text), picture)


def _picture(extraction: Extraction, runtime: Runtime) -> LoadedImage:
    if extraction.image is None:
        raise NamepinError("E330", "the last post has no picture", mend="send the post again with its picture")
    return runtime.context.pictures.open(extraction.image)


def _index(extraction: Extraction, which: str) -> int:
    index = words.which(extraction.entities, which)
    if index is None:
        names = "; ".join(f"{i}. {e.text}" for i, e in enumerate(extraction.entities, 1)) or "none"
        raise NamepinError("E330", "it is not clear which name is meant", mend=f"name one by number: {names}")
    return index


def _checked(box: tuple[float, float, float, float] | None) -> Box:
    if box is None or not (box[0] < box[2] and box[1] < box[3]):
        raise NamepinError(
            "E330", "the box is missing, empty or inverted", mend="give x1, y1, x2, y2 with x1 < x2, y1 < y2"
        )
    return box


def _facts_of(entity: Entity) -> dict[str, Any]:
    facts = entity.model_dump(mode="json", include={"text", "label", "fine_label", "groundable", "match_score", "box"})
    return facts | {"probability": score(entity), "has_mask": entity.mask is not None, "why": entity.evidence}


def _row(entity: Entity) -> dict[str, str]:
    return {
        "name": entity.text,
        "label": entity.label,
        "fine_label": entity.fine_label or "",
        "start": str(entity.start),
        "end": str(entity.end),
        "in_picture": {True: "yes", False: "no", None: ""}[entity.groundable],
        "match_score": "" if entity.match_score is None else f"{entity.match_score:.4f}",
        "box": " ".join(f"{value:g}" for value in entity.box) if entity.box else "",
    }


def _harmless(value: str) -> str:
    """A cell that a spreadsheet will not run as a formula."""
    return "'" + value if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
