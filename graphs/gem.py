"""The GEM graph (Wang et al., EMNLP 2024): every box of the paper's figure 2 is a node, and every arrow is a route.

    caption -> knowledge -> tag -> gate -> rerank (one branch per hard mention) -> match -> trace -> segment -> assemble

`python -m namepin.graphs.gem` prints it as Mermaid. The nodes have no thresholds of their own: thresholds come from the
context, answers from the tools, and all findings are in the state.
"""

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from namepin.graphs import routes
from namepin.graphs.compile import compile_graph
from namepin.graphs.context import Context
from namepin.graphs.mask_checks import check_masks
from namepin.graphs.review_nodes import ask_label, ask_place
from namepin.graphs.roles import MATCHER, SEGMENTER, TRACER
from namepin.graphs.state import Finding, Json, PostState, image_of, mentions_of
from namepin.graphs.step import RETRY, step
from namepin.graphs.text_nodes import (
    REVIEW,
    Graph,
    caption,
    count,
    dumps,
    entity_fields,
    finish,
    gate,
    knowledge,
    query_of,
    rerank,
    tag,
)
from namepin.tools.interfaces import (
    Match,
    MatchRequest,
    Segment,
    SegmentPrompt,
    SegmentRequest,
    TraceQuery,
    TraceRequest,
)
from namepin.tools.types import Entity, Mention

NAME = "gem-2"
"""Part of every fingerprint: raise the number whenever a node's answer changes for the same calls."""


@step(
    without="nothing was looked for in the picture",
    summary=lambda u: f"{sum(bool(f['groundable']) for f in u['findings'])} of {len(u['findings'])} in the picture",
)
async def match(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ask in one call which mentions are in the picture (section 3.4.1)."""
    queries = [query_of(state, mention.index) for mention in mentions_of(state)]
    request = MatchRequest(image=image_of(state), text=state["text"], queries=tuple(queries))
    found = await runtime.context.ask(MATCHER, request)
    policy = runtime.context.policy.match
    return {
        "findings": [
            Finding(
                index=i,
                match=match.model_dump(mode="json"),
                groundable=policy.groundable(match.score, match.can_tell),
            )
            for (i, _), match in zip(enumerate(queries), found.matches, strict=True)
        ],
        "notices": dumps(found.notices),
    }


@step(without="places are the matcher's", summary=lambda u: count([f for f in u["findings"] if f["peak"]], "place"))
async def trace(state: PostState, runtime: Runtime[Context]) -> Json:
    """Find the point in the picture that caused the match (section 3.4.2)."""
    groundable = [finding for finding in state["findings"] if finding["groundable"]]
    queries = [
        TraceQuery(query=query_of(state, f["index"]), region=f["match"]["region"], kind=f["match"]["kind"])
        for f in groundable
    ]
    found = await runtime.context.ask(TRACER, TraceRequest(image=image_of(state), queries=tuple(queries)))
    return {
        "findings": [
            Finding(index=f["index"], peak=list(trace.peak) if trace.peak else None, heat=trace.heat)
            for f, trace in zip(groundable, found.traces, strict=True)
        ],
        "notices": dumps(found.notices),
    }


@step(without="boxes are the matcher's", summary=lambda u: count(u["findings"], "segment"))
async def segment(state: PostState, runtime: Runtime[Context]) -> Json:
    """Turn a point, and the matcher's region if there is one, into a mask and its box (section 3.4.3)."""
    prompted, prompts = segment_prompts(state)
    found = await runtime.context.ask(SEGMENTER, SegmentRequest(image=image_of(state), prompts=tuple(prompts)))
    check_masks(SEGMENTER.name, (s.mask for s in found.segments), image_of(state))
    return {
        "findings": [
            Finding(index=f["index"], segment=segment.model_dump(mode="json"))
            for f, segment in zip(prompted, found.segments, strict=True)
        ],
        "notices": dumps(found.notices),
    }


def segment_prompts(state: PostState) -> tuple[list[Finding], list[SegmentPrompt]]:
    """The findings that can be segmented, and their prompts."""
    prompted = [finding for finding in state["findings"] if routes.has_prompt(finding)]
    prompts = [
        SegmentPrompt(
            query=query_of(state, f["index"]), peak=f.get("peak"), box=f["match"]["region"], kind=f["match"]["kind"]
        )
        for f in prompted
    ]
    return prompted, prompts


@step(without="", summary=lambda u: count(u["entities"], "entity", "entities"))
async def assemble(state: PostState, runtime: Runtime[Context]) -> Json:
    """Combine mentions and findings, and warn about requested steps that the profile cannot do."""
    return finish(state, runtime, cascade_entities(state, runtime))


def cascade_entities(state: PostState, runtime: Runtime[Context]) -> list[Entity]:
    """One entity per mention of the tagger."""
    findings = {finding["index"]: finding for finding in state["findings"]}
    return [_entity(state, mention, findings[mention.index], runtime) for mention in mentions_of(state)]


def _entity(state: PostState, mention: Mention, finding: Finding, runtime: Runtime[Context]) -> Entity:
    """One entity. Its provenance names the tools that contributed to it, in the order of the graph."""
    found = Match.model_validate(finding["match"]) if "match" in finding else None
    pinned = Segment.model_validate(finding["segment"]) if "segment" in finding else None
    fields = entity_fields(state, mention, finding, runtime.context.policy.gate)
    had_part = {MATCHER.name: "match", TRACER.name: "peak", SEGMENTER.name: "segment"}
    placed = [REVIEW] if "place" in finding.get("answered", []) and REVIEW not in fields["provenance"] else []
    return Entity(
        **fields
        | {
            "groundable": finding.get("groundable"),
            "match_score": found.score if found and found.can_tell else None,
            "box": _box(finding, found, pinned),
            "mask": pinned.mask if pinned else None,
            "peak": finding.get("peak"),
            "mask_score": pinned.score if pinned else None,
            "mask_stability": pinned.stability if pinned else None,
            "ambiguous": found.ambiguous if found else False,
            "evidence": found.evidence if found else None,
            "provenance": (*fields["provenance"], *(role for role, key in had_part.items() if key in finding), *placed),
        }
    )


def _box(finding: Finding, found: Match | None, pinned: Segment | None) -> tuple[float, float, float, float] | None:
    """The segment's box; the matcher's own region without a segment."""
    if not finding.get("groundable"):
        return None
    return (pinned.box if pinned else None) or (found.region if found else None)


def wire(graph: StateGraph[Any, Any, Any, Any], first: str = START, last: str = END, *, review: bool = False) -> None:
    """Add the steps and edges to a graph. A post comes from `first`, and its result goes to `last`.

    With `review` a person is asked after the gate and after the match (`namepin.graphs.review_nodes`).
    """
    graph.add_node(caption, retry_policy=RETRY)
    graph.add_node(knowledge, retry_policy=RETRY)
    graph.add_node(tag, retry_policy=RETRY)
    graph.add_node(gate)
    graph.add_node(rerank, retry_policy=RETRY)
    graph.add_node(match, retry_policy=RETRY)
    graph.add_node(trace, retry_policy=RETRY)
    graph.add_node(segment, retry_policy=RETRY)
    graph.add_node(assemble)
    if review:
        graph.add_node(ask_label)
        graph.add_node(ask_place)
        graph.add_edge("gate", "ask_label")
        graph.add_edge("match", "ask_place")

    visual_half = ["match", "assemble"]
    graph.add_conditional_edges(first, routes.at_start, ["caption", "knowledge", "tag"])
    graph.add_conditional_edges("caption", routes.before_tag, ["knowledge", "tag"])
    graph.add_edge("knowledge", "tag")
    graph.add_conditional_edges("tag", routes.after_tag, ["gate", "assemble"])
    graph.add_conditional_edges("ask_label" if review else "gate", routes.after_gate, ["rerank", *visual_half])
    graph.add_conditional_edges("rerank", routes.before_match, visual_half)
    graph.add_conditional_edges(
        "ask_place" if review else "match", routes.after_match, ["trace", "segment", "assemble"]
    )
    graph.add_conditional_edges("trace", routes.before_segment, ["segment", "assemble"])
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
