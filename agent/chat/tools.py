"""The tools of a conversation: validated arguments, structured answers, and no argument for a file or an address.

Each tool returns an `Answer` beside the message for the model, so that every interface shows the same numbers. A tool
reports its errors in its answer, and the conversation continues.
"""

import json
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Annotated, Any

from langchain.tools import ToolRuntime, tool
from langchain_core.messages import ToolMessage
from langgraph.types import Command
from pydantic import Field

from namepin.agent.chat import answers
from namepin.agent.chat.answers import Form
from namepin.agent.chat.single_tool import Coarse
from namepin.agent.chat.state import Answer, ChatContext, ChatState, RememberedPost, picture_update
from namepin.agent.render.view import error_sentences
from namepin.agent.stores.pictures import Attachment
from namepin.tools.errors import NamepinError
from namepin.tools.types import ImageRef, Notice

Runtime = ToolRuntime[ChatContext, ChatState]
Which = Annotated[
    str, Field(max_length=300, description="Which name of the last post: its number (1 is the first), or its text.")
]
MAX_TEXT = 8000


def _answering(
    work: Callable[..., Awaitable[tuple[Answer, RememberedPost | None]]],
) -> Callable[..., Awaitable[Command[Any]]]:
    """Turn a tool's result into the conversation's next state; a coded error becomes an answer with its text."""

    @wraps(work)
    async def run(*args: Any, runtime: Runtime, **kwargs: Any) -> Command[Any]:
        seen: RememberedPost | None = None
        try:
            answer, seen = await work(*args, runtime=runtime, **kwargs)
        except NamepinError as error:
            answer = Answer(kind="refusal", words=error_sentences(error), facts={"error": str(error)})
        message = ToolMessage(
            json.dumps(answer.facts or {"answer": answer.words}, ensure_ascii=False),
            artifact=answer.model_dump(mode="json"),
            tool_call_id=runtime.tool_call_id or "",
            name=work.__name__,
            status="error" if answer.kind == "refusal" else "success",
        )
        update: dict[str, Any] = {"messages": [message]}
        if seen is not None:
            update["seen"] = [seen]
        if work.__name__ == "extract":
            update |= picture_update(Attachment())
        return Command(update=update)

    return run


@tool
@_answering
async def extract(
    text: Annotated[str, Field(min_length=1, max_length=MAX_TEXT, description="The post's text, word for word.")],
    runtime: Runtime,
) -> tuple[Answer, RememberedPost | None]:
    """Find the names of a post, their types, and where they are in the picture that came with the message."""
    context, ref = runtime.context, runtime.state.get("picture")
    notices = tuple(map(Notice.model_validate, runtime.state.get("picture_notices") or ()))
    attached = Attachment(ImageRef.model_validate(ref) if ref else None, notices)
    return await answers.read(
        context,
        _next_id(runtime),
        text,
        attached,
        context.profile,
        context.overrides,
        runtime.stream_writer,
    )


@tool
@_answering
async def rerun(
    gamma: Annotated[float, Field(ge=0, le=4, description="The entropy gate's threshold in nats.")], runtime: Runtime
) -> tuple[Answer, RememberedPost | None]:
    """Read the last post again with another threshold of the entropy gate."""
    last = _last(runtime)
    extraction = answers.extraction_of(last)
    overrides = {**last["overrides"], "gate": {**last["overrides"].get("gate", {}), "gamma": gamma}}
    return await answers.read(
        runtime.context,
        _next_id(runtime),
        extraction.text,
        answers.attached_to(extraction),
        last["profile"],
        overrides,
        runtime.stream_writer,
    )


@tool
@_answering
async def explain(which: Which, runtime: Runtime) -> tuple[Answer, RememberedPost | None]:
    """Explain a decision on a name of the last post: why this type, why (not) in the picture, which tools took part."""
    return await answers.explain(runtime.context, _last(runtime), which), None


@tool
@_answering
async def ground(
    name: Annotated[str, Field(min_length=1, max_length=200, description="The name to look for.")],
    runtime: Runtime,
    label: Annotated[Coarse | None, Field(description="Its type, if known.")] = None,
) -> tuple[Answer, RememberedPost | None]:
    """Look for one name in the last post's picture, also for one that was not found in the text."""
    return await answers.ground(runtime.context, _last(runtime), name, label), None


@tool
@_answering
async def segment(
    runtime: Runtime,
    which: Which | None = None,
    box: Annotated[
        tuple[float, float, float, float] | None, Field(description="x1, y1, x2, y2 in pixels of the picture.")
    ] = None,
) -> tuple[Answer, RememberedPost | None]:
    """Mask one box of the last post's picture: that of a name, or one given in pixels."""
    return await answers.segment(runtime.context, _last(runtime), which, box)


@tool
@_answering
async def compare(
    runtime: Runtime,
    profiles: Annotated[list[str] | None, Field(max_length=4, description="Profiles; none for all on offer.")] = None,
) -> tuple[Answer, RememberedPost | None]:
    """Read the last post with several profiles and show where they differ."""
    return await answers.compare(runtime.context, _last(runtime), profiles or ()), None


@tool
@_answering
async def show(
    runtime: Runtime, form: Annotated[Form, Field(description="How to write it.")] = "table"
) -> tuple[Answer, RememberedPost | None]:
    """Write the last post's result as CSV, JSON or a table."""
    return answers.show(_last(runtime), form), None


TOOLS = (extract, rerun, explain, ground, segment, compare, show)


def _last(runtime: Runtime) -> RememberedPost:
    posts = runtime.state.get("seen", [])
    if not posts:
        raise NamepinError("E330", "there is no post in this conversation yet", mend="send one first")
    return posts[-1]


def _next_id(runtime: Runtime) -> str:
    posts = runtime.state.get("seen", [])
    return f"post-{1 + int(posts[-1]['extraction']['id'].removeprefix('post-')) if posts else 1}"
