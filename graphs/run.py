"""Runs one post through a graph: yields its progress events, then its `Extraction`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, cast

from langchain_core.runnables.config import RunnableConfig, merge_configs, var_child_runnable_config
from langgraph.types import StreamMode

from namepin.graphs.context import Context
from namepin.graphs.state import PostState, start_state
from namepin.graphs.step import StepEvent
from namepin.graphs.text_nodes import Graph
from namepin.tools.errors import NamepinError
from namepin.tools.llm.usage import Prices, Usage
from namepin.tools.text import tweet_tokens
from namepin.tools.types import Entity, Extraction, ImageRef, Notice, Post, PostUsage

POST_FAILED = "W100"


async def stream_post(
    graph: Graph,
    post: Post,
    image: ImageRef | None,
    context: Context,
    *,
    notices: Sequence[Notice] = (),
    config: RunnableConfig | None = None,
    progress: bool = True,
    entities: Sequence[Entity] = (),
    heat: dict[int, bytes] | None = None,
) -> AsyncIterator[StepEvent | Extraction]:
    """Progress events of every step, and the `Extraction` last.

    Args:
        graph: the result of `build` in `namepin.graphs.gem` or `namepin.graphs.riveg`.
        post: a valid post; its `image` path is not read.
        image: its picture, whose pixels are in `context.media`; None runs only the textual half.
        context: a new one for each post.
        notices: warnings of loading the post; W101 (its picture is missing) makes it `degraded`.
        config: LangGraph's configuration: callbacks, and `thread_id` if the graph has a checkpointer.
        progress: whether to yield the events as well.
        entities: the entities of the start state, for a graph that finds none (`namepin.graphs.masks_only`).
        heat: filled with the heat maps at the end, for drawing; see `heat_maps`.

    Raises:
        NamepinError: any error of a tool except `ToolUnavailable`.
    """
    fingerprint = context.fingerprint(graph.name)
    named: RunnableConfig = {"run_name": graph.name, "metadata": {"post": post.id, "fingerprint": fingerprint}}
    # A name and metadata are copied at each step, so they are given only to a run that somebody watches.
    watched = config is not None or var_child_runnable_config.get() is not None
    state = start_state(post, image, notices)
    state["entities"] = [entity.model_dump(mode="json") for entity in entities]
    modes: list[StreamMode] = ["custom", "values"] if progress else ["values"]
    stream = graph.astream(state, merge_configs(named, config) if watched else None, context=context, stream_mode=modes)
    async for mode, chunk in cast(AsyncIterator[tuple[str, Any]], stream):
        if mode == "custom":
            yield chunk
            continue
        state = chunk
        if context.watch:
            context.watch.state(state)
    extraction = extraction_from(post, image, state, fingerprint, context)
    if context.watch:
        context.watch.result(extraction)
    if heat is not None:
        heat.update(heat_maps(state, context.media.blobs))
    yield extraction


async def extract_post(
    graph: Graph,
    post: Post,
    image: ImageRef | None,
    context: Context,
    *,
    notices: Sequence[Notice] = (),
    config: RunnableConfig | None = None,
    entities: Sequence[Entity] = (),
) -> Extraction:
    """The last item of `stream_post`, with the same arguments and errors."""
    stream = stream_post(graph, post, image, context, notices=notices, config=config, progress=False, entities=entities)
    return cast(Extraction, [event async for event in stream][-1])


def failed_extraction(post: Post, image: ImageRef | None, error: Exception, fingerprint: str) -> Extraction:
    """The result for a post of a batch that raised: without entities, and with the error, code first, as a warning."""
    tool = getattr(error, "tool", "graph")
    message = str(error) if isinstance(error, NamepinError) else f"{type(error).__name__}: {error}"
    return Extraction(
        id=post.id,
        text=post.text,
        tokens=post.tokens or tweet_tokens(post.text),
        image=image,
        status="failed",
        warnings=(Notice(code=POST_FAILED, tool=tool, message=message),),
        fingerprint=fingerprint,
        extra=dict(post.extra) or None,
    )


def heat_maps(state: PostState, blobs: Mapping[str, bytes]) -> dict[int, bytes]:
    """The tracer's heat maps of a finished run: an entity's index in the result -> the blob of its map.

    Heat maps are not part of an `Extraction`. A map without a peak is empty and is left out.
    """
    traced = {
        (state["mentions"][f["index"]]["start"], state["mentions"][f["index"]]["end"]): str(f.get("heat"))
        for f in state["findings"]
        if f.get("peak") is not None and f.get("heat") in blobs
    }
    keys = {i: traced.get((entity["start"], entity["end"])) for i, entity in enumerate(state["entities"])}
    return {i: blobs[key] for i, key in keys.items() if key is not None}


def post_usage(usage: Usage, prices: Prices) -> PostUsage | None:
    """What servers counted for a post; None where they counted no tokens."""
    tokens = usage.prompt_tokens, usage.completion_tokens
    if not any(tokens):
        return None
    money = prices.of(*tokens)
    return PostUsage(
        answers=usage.answers,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        money=money,
        currency=None if money is None else prices.currency,
    )


def extraction_from(
    post: Post, image: ImageRef | None, state: PostState, fingerprint: str, context: Context
) -> Extraction:
    """The result in a graph's last state."""
    warnings = {(n["code"], n["tool"], n["message"]): n for n in state["notices"]}
    return Extraction.model_validate(
        {
            "id": post.id,
            "text": post.text,
            "tokens": state["tokens"],
            "image": image,
            "status": state["status"],
            "warnings": list(warnings.values()),
            "entities": state["entities"],
            "fingerprint": fingerprint,
            "timings_ms": context.timings_ms(),
            "usage": post_usage(context.usage, context.prices),
            "extra": dict(post.extra) or None,
        }
    )
