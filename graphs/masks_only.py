"""Masks only: a segmenter adds masks to the boxes that any method predicted (RiVEG section IV-C2, SMNER).

The graph has one step. State, context, calls, recording and warnings are those of the other graphs.
"""

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from namepin.graphs.context import Context
from namepin.graphs.mask_checks import check_masks, mask_missed, missed_notice
from namepin.graphs.roles import SEGMENTER
from namepin.graphs.state import Json, PostState, image_of
from namepin.graphs.step import DEGRADING, RETRY, step
from namepin.graphs.text_nodes import Graph, count, dumps
from namepin.tools.interfaces import Query, SegmentPrompt, SegmentRequest
from namepin.tools.types import Entity

NAME = "masks-1"
"""Part of every fingerprint: raise the number whenever a node's answer changes for the same calls."""


@step(without="no masks were added", summary=lambda u: count([e for e in u["entities"] if e["mask"]], "mask"))
async def segment(state: PostState, runtime: Runtime[Context]) -> Json:
    """One call for all boxes of the picture; entities without a box stay as they are."""
    entities = [Entity.model_validate(row) for row in state["entities"]]
    boxed = [i for i, entity in enumerate(entities) if entity.box is not None]
    prompts = tuple(_prompt(entities[i]) for i in boxed)
    found = await runtime.context.ask(SEGMENTER, SegmentRequest(image=image_of(state), prompts=prompts))
    check_masks(SEGMENTER.name, (s.mask for s in found.segments), image_of(state))
    agreement, missed = runtime.context.policy.mask.agreement, []
    for i, prompt, segment in zip(boxed, prompts, found.segments, strict=True):
        beside = mask_missed(prompt, segment, agreement)
        if beside:
            missed.append(missed_notice(prompt, segment))
        pinned = {"mask": segment.mask, "mask_score": segment.score, "mask_stability": segment.stability}
        provenance = (*entities[i].provenance, SEGMENTER.name)
        ambiguous = beside or entities[i].ambiguous
        entities[i] = entities[i].model_copy(update=pinned | {"ambiguous": ambiguous, "provenance": provenance})
    rows = [entity.model_dump(mode="json") for entity in entities]
    return {"entities": rows, "notices": dumps([*found.notices, *missed])}


@step(without="", summary=lambda u: u["status"])
async def assemble(state: PostState, runtime: Runtime[Context]) -> Json:
    """Set the status: `degraded` if something is missing."""
    return {"status": "degraded" if any(n["code"] in DEGRADING for n in state["notices"]) else "ok"}


def _prompt(entity: Entity) -> SegmentPrompt:
    query = Query(text=entity.text, label=entity.label, category=entity.fine_label or entity.label)
    return SegmentPrompt(query=query, box=entity.box)


async def at_start(state: PostState, runtime: Runtime[Context]) -> str:
    """Segment only where there is a picture and a box."""
    boxed = any(entity.get("box") for entity in state["entities"])
    return "segment" if state["image"] and boxed and runtime.context.has(SEGMENTER) else "assemble"


def build(checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """The compiled graph. The start state must hold the entities."""
    graph = StateGraph(PostState, context_schema=Context)
    graph.add_node(segment, retry_policy=RETRY)
    graph.add_node(assemble)
    graph.add_conditional_edges(START, at_start, ["segment", "assemble"])
    graph.add_edge("segment", "assemble")
    graph.add_edge("assemble", END)
    return graph.compile(checkpointer=checkpointer, name=NAME)
