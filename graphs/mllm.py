"""The graph with one model: a vision-language model answers names, types and boxes at once, as MCR and E2E-GMNER do.

    extract -> segment -> assemble

`python -m namepin.graphs.mllm` prints it as Mermaid. State, calls, recording and warnings are the other graphs' own.
"""

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from namepin.graphs.compile import compile_graph
from namepin.graphs.context import Context
from namepin.graphs.mask_checks import check_masks, mask_missed, missed_notice
from namepin.graphs.policy import Policy
from namepin.graphs.review_nodes import ask_label, ask_place
from namepin.graphs.roles import EXTRACTOR, SEGMENTER
from namepin.graphs.state import Finding, Json, PostState, image_of, mentions_of
from namepin.graphs.step import RETRY, step
from namepin.graphs.text_nodes import REVIEW, Graph, count, dumps, finish, query_of, type_probability
from namepin.tools.interfaces import ExtractRequest, Place, Segment, SegmentPrompt, SegmentRequest
from namepin.tools.types import Entity, Mention

NAME = "mllm-1"
"""Part of every fingerprint: raise the number whenever a node's answer changes for the same calls."""


@step(without="no names were looked for", summary=lambda u: count(u["mentions"], "mention"))
async def extract(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ask the model once for the names, their types and their boxes."""
    found = await runtime.context.ask(EXTRACTOR, extract_request(state))
    return {
        "tokens": list(found.tokens),
        "mentions": [mention.model_dump(mode="json") for mention in found.mentions],
        "findings": [
            Finding(index=i, near_gamma=False, candidates=[], place=p.model_dump(mode="json"), groundable=p.groundable)
            for i, p in enumerate(found.places)
        ],
        "notices": dumps(found.notices),
    }


def extract_request(state: PostState) -> ExtractRequest:
    """The post as the model's question."""
    tokens = state["tokens"]
    return ExtractRequest(
        text=state["text"],
        tokens=tuple(tokens) if tokens is not None else None,
        image=image_of(state) if state["image"] else None,
    )


@step(without="the model's boxes stay without masks", summary=lambda u: count(u["findings"], "segment"))
async def segment(state: PostState, runtime: Runtime[Context]) -> Json:
    """Turn boxes into masks, and report masks that do not fill their box."""
    prompted = [finding for finding in state["findings"] if _has_box(finding)]
    prompts = [SegmentPrompt(query=query_of(state, f["index"]), box=f["place"]["box"]) for f in prompted]
    found = await runtime.context.ask(SEGMENTER, SegmentRequest(image=image_of(state), prompts=tuple(prompts)))
    check_masks(SEGMENTER.name, (s.mask for s in found.segments), image_of(state))
    agreement = runtime.context.policy.mask.agreement
    pairs = list(zip(prompts, found.segments, strict=True))
    missed = [missed_notice(prompt, segment) for prompt, segment in pairs if mask_missed(prompt, segment, agreement)]
    return {
        "findings": [
            Finding(index=f["index"], segment=segment.model_dump(mode="json"))
            for f, segment in zip(prompted, found.segments, strict=True)
        ],
        "notices": dumps([*found.notices, *missed]),
    }


@step(without="", summary=lambda u: count(u["entities"], "entity", "entities"))
async def assemble(state: PostState, runtime: Runtime[Context]) -> Json:
    """Combine mentions and findings, and warn about requested steps that the profile cannot do."""
    pairs = zip(mentions_of(state), state["findings"], strict=True)
    return finish(
        state, runtime, [answered_entity(mention, finding, runtime.context.policy) for mention, finding in pairs]
    )


def answered_entity(mention: Mention, finding: Finding, policy: Policy) -> Entity:
    """One entity of the model's answer. Its box is the model's, its mask the segmenter's."""
    place = Place.model_validate(finding["place"])
    pinned = Segment.model_validate(finding["segment"]) if "segment" in finding else None
    box = place.box if finding.get("groundable") else None
    missed = pinned is not None and box is not None and mask_missed(box, pinned, policy.mask.agreement)
    answered = finding.get("answered", [])
    return Entity(
        **mention.model_dump(include={"text", "start", "end", "token_span", "scores"}),
        label=finding.get("label", mention.label),
        fine_label=finding["fine_label"] if "fine_label" in finding else mention.fine_label,
        type_uncertain=policy.gate.unsure(type_probability(mention, finding)),
        groundable=finding.get("groundable"),
        match_score=place.score,
        box=box,
        mask=pinned.mask if pinned else None,
        mask_score=pinned.score if pinned else None,
        mask_stability=pinned.stability if pinned else None,
        ambiguous=missed,
        evidence="the mask does not fill the box that was asked about" if missed else None,
        provenance=(EXTRACTOR.name, *([SEGMENTER.name] if pinned else []), *([REVIEW] if answered else [])),
    )


def _has_box(finding: Finding) -> bool:
    return bool(finding.get("groundable")) and finding["place"]["box"] is not None


async def at_start(state: PostState, runtime: Runtime[Context]) -> str:
    """Without a model there is nothing to ask."""
    return "extract" if runtime.context.has(EXTRACTOR) else "assemble"


async def before_segment(state: PostState, runtime: Runtime[Context]) -> str:
    """The segmenter needs a box."""
    return "segment" if runtime.context.has(SEGMENTER) and any(map(_has_box, state["findings"])) else "assemble"


def wire(graph: StateGraph[Any, Any, Any, Any], first: str = START, last: str = END, *, review: bool = False) -> None:
    """Add the steps and edges to a graph. A post comes from `first`, and its result goes to `last`.

    With `review` a person is asked after the answer (`namepin.graphs.review_nodes`).
    """
    graph.add_node(extract, retry_policy=RETRY)
    graph.add_node(segment, retry_policy=RETRY)
    graph.add_node(assemble)
    if review:
        graph.add_node(ask_label)
        graph.add_node(ask_place)
        graph.add_edge("extract", "ask_label")
        graph.add_edge("ask_label", "ask_place")

    graph.add_conditional_edges(first, at_start, ["extract", "assemble"])
    graph.add_conditional_edges("ask_place" if review else "extract", before_segment, ["segment", "assemble"])
    graph.add_edge("segment", "assemble")
    graph.add_edge("assemble", last)


def build(checkpointer: BaseCheckpointSaver[Any] | None = None, *, review: bool = False) -> Graph:
    """The compiled graph; see `compile_graph`."""
    return compile_graph(NAME, wire, checkpointer, review=review)


def mermaid() -> str:
    """The graph as Mermaid text."""
    return build().get_graph().draw_mermaid()


if __name__ == "__main__":
    print(mermaid())
