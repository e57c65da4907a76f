"""The RiVEG graph (Li et al.): recognition and expansion first, then entailment, grounding and segmentation (Figure 6).

    caption -> examples -> knowledge -> tag -> gate -> rerank (one branch per hard mention)
            -> describe -> expand (one branch per mention) -> entail -> ground -> segment -> assemble

`python -m namepin.graphs.riveg` prints it as Mermaid. Gate and reranker are GEM's: a profile with a reranker mixes the
two papers. Without a reranker, the gate only reports.
"""

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from namepin.graphs import riveg_routes as routes
from namepin.graphs.compile import compile_graph
from namepin.graphs.context import Context
from namepin.graphs.mask_checks import check_masks, mask_missed, missed_notice
from namepin.graphs.review_nodes import ask_label, ask_place
from namepin.graphs.riveg_expression import expression_of, referring_query
from namepin.graphs.roles import DESCRIBER, ENTAILMENT, EXAMPLES, EXPANSION, GROUNDER, SEGMENTER
from namepin.graphs.routes import after_tag
from namepin.graphs.state import ExpandTask, Finding, Json, PostState, image_of, mentions_of
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
    CaptionRequest,
    Entailment,
    EntailRequest,
    ExamplesRequest,
    ExpandRequest,
    Grounded,
    GroundRequest,
    Segment,
    SegmentPrompt,
    SegmentRequest,
)
from namepin.tools.types import Entity, Mention, Notice

NAME = "riveg-1"
"""Part of every fingerprint: raise the number whenever a node's answer changes for the same calls."""

UNEXPANDED = "W153"


@step(without="knowledge is asked for without examples", summary=lambda u: count(u["examples"], "example"))
async def examples(state: PostState, runtime: Runtime[Context]) -> Json:
    """Choose the annotated samples most like this post (section IV-B1b, MSEA)."""
    image = image_of(state) if state["image"] else None
    request = ExamplesRequest(id=state["id"], text=state["text"], image=image)
    found = (await runtime.context.ask(EXAMPLES, request)).model_dump(mode="json")
    return {"examples": found["examples"], "notices": found["notices"]}


@step(without="names are expanded without a description", summary=lambda u: f"{len(u['background'] or '')} characters")
async def describe(state: PostState, runtime: Runtime[Context]) -> Json:
    """Describe the picture as background for the expansions (section IV-B2)."""
    if not runtime.context.has(DESCRIBER):
        return {"background": None}
    found = await runtime.context.ask(DESCRIBER, CaptionRequest(image=image_of(state)))
    return {"background": found.text, "notices": dumps(found.notices)}


@step(without="looked for by its name and type", summary=lambda u: u["findings"][0].get("expansion", ""))
async def expand(state: ExpandTask, runtime: Runtime[Context]) -> Json:
    """Describe in plain words what one mention refers to (section IV-B2)."""
    answer = await runtime.context.ask(EXPANSION, ExpandRequest.model_validate(state["request"]))
    finding = Finding(index=state["index"])
    if answer.text:
        finding["expansion"] = answer.text
    return {"findings": [finding], "notices": dumps(answer.notices)}


@step(
    without="nothing was looked for in the picture",
    summary=lambda u: f"{sum(f['groundable'] for f in u['findings'])} of {len(u['findings'])} in the picture",
)
async def entail(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ask in one call which expressions the picture entails (section IV-C1)."""
    policy = runtime.context.policy
    queries = tuple(referring_query(state, m.index, policy.expression) for m in mentions_of(state))
    request = EntailRequest(image=image_of(state), text=state["text"], caption=state["caption"], queries=queries)
    found = await runtime.context.ask(ENTAILMENT, request)
    return {
        "findings": [
            Finding(index=i, entailment=e.model_dump(mode="json"), groundable=e.score >= policy.match.threshold)
            for (i, _), e in zip(enumerate(queries), found.entailments, strict=True)
        ],
        "notices": dumps(found.notices),
    }


@step(without="places are unknown", summary=lambda u: count([f for f in u["findings"] if f["groundable"]], "place"))
async def ground(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ground the mentions that the picture entails (section IV-C2); without entailment, all mentions."""
    everything = not runtime.context.has(ENTAILMENT)
    asked = [f["index"] for f in state["findings"] if everything or f.get("groundable")]
    policy = runtime.context.policy.expression
    queries = tuple(referring_query(state, index, policy) for index in asked)
    request = GroundRequest(image=image_of(state), text=state["text"], queries=queries)
    found = await runtime.context.ask(GROUNDER, request)
    check_masks(GROUNDER.name, (g.mask for g in found.groundings), request.image)
    return {
        "findings": [
            Finding(index=i, grounded=g.model_dump(mode="json"), groundable=not everything or bool(g.boxes))
            for i, g in zip(asked, found.groundings, strict=True)
        ],
        "notices": dumps(found.notices),
    }


@step(without="masks are the grounder's, where it has any", summary=lambda u: count(u["findings"], "segment"))
async def segment(state: PostState, runtime: Runtime[Context]) -> Json:
    """Turn boxes into masks (section IV-C2), and report masks that do not fill their box (Figure 12)."""
    prompted = [finding for finding in state["findings"] if routes.has_box(finding)]
    prompts = [SegmentPrompt(query=query_of(state, f["index"]), box=f["grounded"]["boxes"][0]["box"]) for f in prompted]
    found = await runtime.context.ask(SEGMENTER, SegmentRequest(image=image_of(state), prompts=tuple(prompts)))
    check_masks(SEGMENTER.name, (s.mask for s in found.segments), image_of(state))
    pairs = list(zip(prompts, found.segments, strict=True))
    agreement = runtime.context.policy.mask.agreement
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
    findings = {finding["index"]: finding for finding in state["findings"]}
    entities = [_entity(state, mention, findings[mention.index], runtime) for mention in mentions_of(state)]
    update = finish(state, runtime, entities)
    return {**update, "notices": [*update["notices"], *dumps(_unexpanded_notice(state, runtime))]}


def _entity(state: PostState, mention: Mention, finding: Finding, runtime: Runtime[Context]) -> Entity:
    """One entity. Its box comes from the grounder, as the paper scores GMNER; its mask from the segmenter."""
    policy = runtime.context.policy
    grounded = Grounded.model_validate(finding["grounded"]) if "grounded" in finding else Grounded()
    entailment = Entailment.model_validate(finding["entailment"]) if "entailment" in finding else None
    pinned = Segment.model_validate(finding["segment"]) if "segment" in finding else None
    box = grounded.boxes[0].box if grounded.boxes else None
    missed = pinned is not None and box is not None and mask_missed(box, pinned, policy.mask.agreement)
    fields = entity_fields(state, mention, finding, policy.gate)
    had_part = {
        EXPANSION.name: "expansion",
        ENTAILMENT.name: "entailment",
        GROUNDER.name: "grounded",
        SEGMENTER.name: "segment",
    }
    looked = "entailment" in finding or "grounded" in finding
    placed = [REVIEW] if "place" in finding.get("answered", []) and REVIEW not in fields["provenance"] else []
    return Entity(
        **fields
        | {
            "expression": expression_of(state, mention.index, policy.expression) if looked else None,
            "groundable": finding.get("groundable"),
            "match_score": entailment.score if entailment else None,
            "box": box,
            "mask": pinned.mask if pinned else grounded.mask,
            "mask_score": pinned.score if pinned else None,
            "mask_stability": pinned.stability if pinned else None,
            "ambiguous": missed,
            "evidence": "the mask does not fill the box that was asked about" if missed else None,
            "provenance": (*fields["provenance"], *(role for role, key in had_part.items() if key in finding), *placed),
        }
    )


def _unexpanded_notice(state: PostState, runtime: Runtime[Context]) -> list[Notice]:
    """W153: the post has more mentions than the policy expands."""
    most, policy = runtime.context.policy.expression.most, runtime.context.policy.expression
    left = len(state["mentions"]) - most
    expands = any(name.startswith("expand") for name in state["path"])
    if left <= 0 or not expands or policy.text == "entity":
        return []
    message = f"only the first {most} names were expanded; the other {left} were looked for by name and type"
    return [Notice(code=UNEXPANDED, tool=EXPANSION.name, message=message)]


def wire(graph: StateGraph[Any, Any, Any, Any], first: str = START, last: str = END, *, review: bool = False) -> None:
    """Add the steps and edges to a graph. A post comes from `first`, and its result goes to `last`.

    With `review` a person is asked after the gate and after the match (`namepin.graphs.review_nodes`).
    """
    graph.add_node(caption, retry_policy=RETRY)
    graph.add_node(examples, retry_policy=RETRY)
    graph.add_node(knowledge, retry_policy=RETRY)
    graph.add_node(tag, retry_policy=RETRY)
    graph.add_node(gate)
    graph.add_node(rerank, retry_policy=RETRY)
    graph.add_node(describe, retry_policy=RETRY)
    graph.add_node(expand, retry_policy=RETRY)
    graph.add_node(entail, retry_policy=RETRY)
    graph.add_node(ground, retry_policy=RETRY)
    graph.add_node(segment, retry_policy=RETRY)
    graph.add_node(assemble)
    if review:
        graph.add_node(ask_label)
        graph.add_node(ask_place)
        graph.add_edge("gate", "ask_label")
        graph.add_edge("entail", "ask_place")

    second_stage = ["describe", "entail", "ground", "assemble"]
    graph.add_conditional_edges(first, routes.at_start, ["caption", "examples", "knowledge", "tag"])
    graph.add_conditional_edges("caption", routes.before_knowledge, ["examples", "knowledge", "tag"])
    graph.add_edge("examples", "knowledge")
    graph.add_edge("knowledge", "tag")
    graph.add_conditional_edges("tag", after_tag, ["gate", "assemble"])
    graph.add_conditional_edges("ask_label" if review else "gate", routes.after_gate, ["rerank", *second_stage])
    graph.add_conditional_edges("rerank", routes.before_visual, second_stage)
    graph.add_conditional_edges("describe", routes.after_describe, ["expand"])
    graph.add_conditional_edges("expand", routes.after_expand, ["entail", "ground"])
    graph.add_conditional_edges("ask_place" if review else "entail", routes.after_entail, ["ground", "assemble"])
    graph.add_conditional_edges("ground", routes.before_segment, ["segment", "assemble"])
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
