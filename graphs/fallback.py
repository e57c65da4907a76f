"""GEM's graph with one model behind its gate: sure posts keep the cheap path, uncertain ones go to the model, too.

    caption -> knowledge -> tag -> gate -> match -> trace -> doubt -> consult -> segment -> assemble

`fallback = "mllm"` of a profile with `graph = "gem"`. The model takes the reranker's place. `merge` has the rule.
`python -m namepin.graphs.fallback` prints the graph as Mermaid.
"""

from collections.abc import Hashable, Sequence
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from namepin.graphs import routes
from namepin.graphs.compile import compile_graph
from namepin.graphs.context import Context
from namepin.graphs.gem import cascade_entities, match, segment_prompts, trace
from namepin.graphs.mask_checks import check_masks
from namepin.graphs.mllm import answered_entity, extract_request
from namepin.graphs.policy import Policy
from namepin.graphs.review_nodes import ask_label, ask_place
from namepin.graphs.roles import EXTRACTOR, SEGMENTER
from namepin.graphs.state import Finding, Json, PostState, image_of, mentions_of
from namepin.graphs.step import RETRY, step
from namepin.graphs.text_nodes import Graph, caption, count, dumps, finish, gate, knowledge, tag
from namepin.tools.interfaces import Extracted, Query, SegmentPrompt, SegmentRequest
from namepin.tools.types import Entity, Mention

NAME = "gem+mllm-1"
"""Part of every fingerprint: raise the number whenever a node's answer changes for the same calls."""

TYPE, PLACE = "type", "place"
"""What can be uncertain about a mention."""


@step(without="", summary=lambda u: count([f for f in u["findings"] if f["unsure"]], "uncertain mention"))
async def doubt(state: PostState, runtime: Runtime[Context]) -> Json:
    """Mark what is uncertain about each mention; a person's decisions are not."""
    policy = runtime.context.policy
    pairs = zip(mentions_of(state), state["findings"], strict=True)
    return {
        "findings": [
            Finding(index=mention.index, unsure=_unsure(mention, finding, policy)) for mention, finding in pairs
        ]
    }


def _unsure(mention: Mention, finding: Finding, policy: Policy) -> list[str]:
    answered, unsure = finding.get("answered", []), []
    if mention.entropy is not None and mention.entropy > policy.gate.gamma and "label" not in answered:
        unsure.append(TYPE)
    found = finding.get("match")
    if found and "place" not in answered and (not found.get("can_tell", True) or policy.match.near(found["score"])):
        unsure.append(PLACE)
    return unsure


@step(without="the cheap path's result stands", summary=lambda u: count(u["consulted"]["mentions"], "mention"))
async def consult(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ask the one model about the whole post."""
    found = await runtime.context.ask(EXTRACTOR, extract_request(state))
    dumped = found.model_dump(mode="json", include={"tokens", "mentions", "places"})
    return {"consulted": dumped, "notices": dumps(found.notices)}


@step(without="places stay without masks", summary=lambda u: count(u["findings"], "segment"))
async def segment(state: PostState, runtime: Runtime[Context]) -> Json:
    """Segment the places of both paths in one call, so that one recording answers every gamma."""
    prompted, prompts = segment_prompts(state)
    boxed = _boxed(state)
    prompts += [_prompt(state, number) for number in boxed]
    found = await runtime.context.ask(SEGMENTER, SegmentRequest(image=image_of(state), prompts=tuple(prompts)))
    check_masks(SEGMENTER.name, (s.mask for s in found.segments), image_of(state))
    dumped = [segment.model_dump(mode="json") for segment in found.segments]
    update: Json = {
        "findings": [Finding(index=f["index"], segment=s) for f, s in zip(prompted, dumped, strict=False)],
        "notices": dumps(found.notices),
    }
    if boxed:
        masks = dict(zip(map(str, boxed), dumped[len(prompted) :], strict=True))
        update["consulted"] = {**state["consulted"], "segments": masks}
    return update


def _boxed(state: PostState) -> list[int]:
    """The numbers of the model's mentions that have a box."""
    return [i for i, place in enumerate(state.get("consulted", {}).get("places", ())) if place["box"] is not None]


def _prompt(state: PostState, number: int) -> SegmentPrompt:
    mention = state["consulted"]["mentions"][number]
    category = mention["fine_label"] or mention["label"]
    query = Query(text=mention["text"], label=mention["label"], category=category)
    return SegmentPrompt(query=query, box=state["consulted"]["places"][number]["box"])


@step(without="", summary=lambda u: count(u["entities"], "entity", "entities"))
async def assemble(state: PostState, runtime: Runtime[Context]) -> Json:
    """Merge both paths, and warn about requested steps that the profile cannot do."""
    cheap = cascade_entities(state, runtime)
    if "consulted" not in state:
        return finish(state, runtime, cheap)
    consulted = Extracted.model_validate({key: state["consulted"][key] for key in ("tokens", "mentions", "places")})
    segments = state["consulted"].get("segments", {})
    found = []
    for mention, place in zip(consulted.mentions, consulted.places, strict=True):
        finding = Finding(index=mention.index, place=place.model_dump(mode="json"), groundable=place.groundable)
        if str(mention.index) in segments:
            finding["segment"] = segments[str(mention.index)]
        found.append(answered_entity(mention, finding, runtime.context.policy))
    return finish(state, runtime, merge(cheap, [finding["unsure"] for finding in state["findings"]], found))


def merge(cheap: Sequence[Entity], unsure: Sequence[Sequence[str]], model: Sequence[Entity]) -> list[Entity]:
    """Merge the cheap path's entities of an uncertain post with the model's.

    1. An entity whose type is sure keeps its span and type. If its place is unsure or unknown, it takes the place that
       the model gives the same span.
    2. An entity whose type is unsure is left out: the model's answer replaces it, or denies it.
    3. The model's other entities are added where they overlap no entity that is kept.

    Args:
        cheap: the tagger's entities, with the matcher's places.
        unsure: what is uncertain about each: `type`, `place`, both or nothing.
        model: the one model's entities.
    """
    by_span = {entity.token_span: entity for entity in model}
    kept = []
    for entity, doubts in zip(cheap, unsure, strict=True):
        if TYPE in doubts:
            continue
        other = by_span.get(entity.token_span)
        if other is not None and other.groundable is not None and (PLACE in doubts or entity.groundable is None):
            entity = _with_place_of(entity, other)
        kept.append(entity)
    taken = {token for entity in kept for token in range(*entity.token_span)}
    return [*kept, *(entity for entity in model if taken.isdisjoint(range(*entity.token_span)))]


def _with_place_of(entity: Entity, other: Entity) -> Entity:
    fields = ("groundable", "match_score", "box", "mask", "mask_score", "mask_stability", "ambiguous", "evidence")
    provenance = (*entity.provenance, *(role for role in other.provenance if role not in entity.provenance))
    place = {name: getattr(other, name) for name in fields}
    return entity.model_copy(update={**place, "peak": None, "provenance": provenance})


async def after_doubt(state: PostState, runtime: Runtime[Context]) -> str:
    """A post with anything uncertain goes to the model."""
    if runtime.context.has(EXTRACTOR) and any(finding["unsure"] for finding in state["findings"]):
        return "consult"
    return await routes.before_segment(state, runtime)


async def before_segment(state: PostState, runtime: Runtime[Context]) -> str:
    """The segmenter needs a place of either path."""
    if runtime.context.has(SEGMENTER) and _boxed(state):
        return "segment"
    return await routes.before_segment(state, runtime)


def wire(graph: StateGraph[Any, Any, Any, Any], first: str = START, last: str = END, *, review: bool = False) -> None:
    """Add the steps and edges to a graph. A post comes from `first`, and its result goes to `last`.

    With `review` a person is asked after the gate and after the match (`namepin.graphs.review_nodes`).
    """
    for node in (caption, knowledge, tag, match, trace, consult, segment):
        graph.add_node(node, retry_policy=RETRY)
    for node in (gate, doubt, assemble):
        graph.add_node(node)
    if review:
        graph.add_node(ask_label)
        graph.add_node(ask_place)
        graph.add_edge("gate", "ask_label")
        graph.add_edge("match", "ask_place")

    graph.add_conditional_edges(first, routes.at_start, ["caption", "knowledge", "tag"])
    graph.add_conditional_edges("caption", routes.before_tag, ["knowledge", "tag"])
    graph.add_edge("knowledge", "tag")
    graph.add_conditional_edges("tag", routes.after_tag, ["gate", "assemble"])
    # Where GEM's routes would segment or end, this graph first looks for doubts.
    seen: dict[Hashable, str] = {"match": "match", "assemble": "doubt"}
    graph.add_conditional_edges("ask_label" if review else "gate", routes.before_match, seen)
    found: dict[Hashable, str] = {"trace": "trace", "segment": "doubt", "assemble": "doubt"}
    graph.add_conditional_edges("ask_place" if review else "match", routes.after_match, found)
    graph.add_edge("trace", "doubt")
    graph.add_conditional_edges("doubt", after_doubt, ["consult", "segment", "assemble"])
    graph.add_conditional_edges("consult", before_segment, ["segment", "assemble"])
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
