"""The GEM graph (Wang et al., EMNLP 2024): every box of the paper's figure 2 is a node, every arrow a route.

    caption -> knowledge -> tag -> gate -> rerank (one branch a hard mention) -> match -> trace -> segment -> assemble

`python -m graphs.gem` prints it as Mermaid. The nodes hold no policy of their own: thresholds come from the context,
answers from the tools, and everything that was found out is in the state.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from graphs import routes
from graphs.calls import CAPTIONER, KNOWLEDGE, MATCHER, RERANKER, SEGMENTER, TAGGER, TRACER
from graphs.context import Context
from graphs.state import Finding, Json, PostState, RerankTask, image_of, mentions_of
from graphs.steps import DEGRADING, RETRY, TOOL_MISSING, step
from tools.errors import ToolUnavailable
from tools.interfaces import (
    CaptionRequest,
    KnowledgeRequest,
    Match,
    MatchRequest,
    Query,
    RerankRequest,
    Segment,
    SegmentPrompt,
    SegmentRequest,
    TagRequest,
    TraceQuery,
    TraceRequest,
)
from tools.labels import ALIASES, COARSE4, FINE_TO_COARSE4
from tools.text import tweet_tokens
from tools.types import Entity, Mention, Notice

NAME = "gem-2"
"""Part of every fingerprint: raise the number whenever a node's answer changes for the same calls."""

Graph = CompiledStateGraph[PostState, Context, PostState, PostState]


@step(without="the post goes on without a caption", summary=lambda u: u["caption"])
async def caption(state: PostState, runtime: Runtime[Context]) -> Json:
    """Describe the picture, for the models that read text only."""
    found = await runtime.context.ask(CAPTIONER, CaptionRequest(image=image_of(state)))
    return {"caption": found.text, "notices": _dumps(found.notices)}


@step(without="tagged without knowledge", summary=lambda u: f"{len(u['knowledge']['text'])} characters")
async def knowledge(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ask a language model what the post is about (section 3.2.1)."""
    found = await runtime.context.ask(KNOWLEDGE, KnowledgeRequest(text=state["text"], caption=state["caption"]))
    known = found.model_dump(mode="json")
    return {"notices": known.pop("notices"), "knowledge": known}


@step(without="no names were looked for", summary=lambda u: _count(u["mentions"], "mention"))
async def tag(state: PostState, runtime: Runtime[Context]) -> Json:
    """Find the mentions and their types (section 3.2)."""
    known, tokens = state["knowledge"], state["tokens"]
    request = TagRequest(
        text=state["text"],
        tokens=tuple(tokens) if tokens is not None else None,
        knowledge=known["text"] if known else None,
        knowledge_style=known["style"] if known else None,
    )
    tags = (await runtime.context.ask(TAGGER, request)).model_dump(mode="json")
    return {
        "tokens": tags["tokens"],
        "mentions": [{**mention, "index": i} for i, mention in enumerate(tags["mentions"])],
        "notices": tags["notices"],
    }


@step(without="", summary=lambda u: _count([f for f in u["findings"] if f["candidates"]], "hard mention"))
async def gate(state: PostState, runtime: Runtime[Context]) -> Json:
    """Mentions whose entropy exceeds gamma get candidates to be reranked among (section 3.3.1)."""
    policy = runtime.context.policy.gate
    return {
        "findings": [
            Finding(
                index=mention.index,
                near_gamma=policy.near(mention.entropy),
                candidates=list(policy.candidates(mention.scores, mention.entropy)),
            )
            for mention in mentions_of(state)
        ]
    }


@step(without="the tagger's type stands", summary=lambda u: u["findings"][0]["fine_label"] or u["findings"][0]["label"])
async def rerank(state: RerankTask, runtime: Runtime[Context]) -> Json:
    """Choose one mention's type among its candidates (section 3.3.2)."""
    request = RerankRequest.model_validate(state["request"])
    answer = await runtime.context.ask(RERANKER, request)
    if answer.label not in request.candidates:
        raise ToolUnavailable(RERANKER.name, f"answered {answer.label!r}, which is not among the candidates")
    label, fine_label = split_label(answer.label)
    return {
        "findings": [Finding(index=state["index"], label=label, fine_label=fine_label)],
        "notices": _dumps(answer.notices),
    }


@step(
    without="nothing was looked for in the picture",
    summary=lambda u: f"{sum(f['groundable'] for f in u['findings'])} of {len(u['findings'])} in the picture",
)
async def match(state: PostState, runtime: Runtime[Context]) -> Json:
    """Ask for all mentions at once whether they are in the picture (section 3.4.1)."""
    queries = [query_of(state, mention.index) for mention in mentions_of(state)]
    request = MatchRequest(image=image_of(state), text=state["text"], queries=tuple(queries))
    found = await runtime.context.ask(MATCHER, request)
    threshold = runtime.context.policy.match.threshold
    return {
        "findings": [
            Finding(index=i, match=match.model_dump(mode="json"), groundable=match.score >= threshold)
            for (i, _), match in zip(enumerate(queries), found.matches, strict=True)
        ],
        "notices": _dumps(found.notices),
    }


@step(without="places are the matcher's", summary=lambda u: _count([f for f in u["findings"] if f["peak"]], "place"))
async def trace(state: PostState, runtime: Runtime[Context]) -> Json:
    """Where in the picture the match came from (section 3.4.2)."""
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
        "notices": _dumps(found.notices),
    }


@step(without="boxes are the matcher's", summary=lambda u: _count(u["findings"], "segment"))
async def segment(state: PostState, runtime: Runtime[Context]) -> Json:
    """From a point (and the matcher's region, where it has one) to a mask and its box (section 3.4.3)."""
    prompted = [finding for finding in state["findings"] if routes.has_prompt(finding)]
    prompts = [
        SegmentPrompt(
            query=query_of(state, f["index"]),
            peak=f.get("peak"),
            box=f["match"]["region"],
            kind=f["match"]["kind"],
        )
        for f in prompted
    ]
    found = await runtime.context.ask(SEGMENTER, SegmentRequest(image=image_of(state), prompts=tuple(prompts)))
    return {
        "findings": [
            Finding(index=f["index"], segment=segment.model_dump(mode="json"))
            for f, segment in zip(prompted, found.segments, strict=True)
        ],
        "notices": _dumps(found.notices),
    }


@step(without="", summary=lambda u: _count(u["entities"], "entity", "entities"))
async def assemble(state: PostState, runtime: Runtime[Context]) -> Json:
    """Put mentions and findings together, and say what the user asked for but the profile cannot do."""
    findings = {finding["index"]: finding for finding in state["findings"]}
    before = [role.name for role, key in ((CAPTIONER, "caption"), (KNOWLEDGE, "knowledge")) if state.get(key)]
    entities = [_entity(mention, findings[mention.index], before) for mention in mentions_of(state)]
    missing = [
        Notice(code=TOOL_MISSING, tool=role, message=f"{role}: asked for, but this profile has none; step skipped")
        for role in sorted(runtime.context.requested - set(runtime.context.calls.fingerprints))
    ]
    notices = [*state["notices"], *_dumps(missing)]
    return {
        "tokens": state["tokens"] if state["tokens"] is not None else list(tweet_tokens(state["text"])),
        "entities": [e.model_dump(mode="json") for e in sorted(entities, key=lambda e: (e.start, e.end))],
        "notices": _dumps(missing),
        "status": "degraded" if any(notice["code"] in DEGRADING for notice in notices) else "ok",
    }


def split_label(label: str) -> tuple[str, str | None]:
    """A label of any scheme as (4-type label, fine label or None): a fine label always brings its own parent."""
    if label in COARSE4:
        return label, None
    fine = ALIASES.get(label, label)
    return FINE_TO_COARSE4[fine], fine


def query_of(state: PostState, index: int) -> Query:
    """A mention as the visual tools see it: with the reranked type, where it was reranked."""
    mention, finding = state["mentions"][index], state["findings"][index]
    typed: Mapping[str, Any] = finding if "label" in finding else mention
    return Query(text=mention["text"], label=typed["label"], category=typed["fine_label"] or typed["label"])


def _entity(mention: Mention, finding: Finding, before: list[str]) -> Entity:
    """One entity; its provenance names the tools that had a part in it, in the order of the graph."""
    found = Match.model_validate(finding["match"]) if "match" in finding else None
    pinned = Segment.model_validate(finding["segment"]) if "segment" in finding else None
    had_part = {RERANKER.name: "label", MATCHER.name: "match", TRACER.name: "peak", SEGMENTER.name: "segment"}
    return Entity(
        text=mention.text,
        start=mention.start,
        end=mention.end,
        token_span=mention.token_span,
        label=finding.get("label", mention.label),
        fine_label=finding["fine_label"] if "fine_label" in finding else mention.fine_label,
        scores=mention.scores,
        entropy=mention.entropy,
        near_gamma=finding["near_gamma"],
        reranked="label" in finding,
        groundable=finding.get("groundable"),
        match_score=found.score if found else None,
        box=_box(finding, found, pinned),
        mask=pinned.mask if pinned else None,
        peak=finding.get("peak"),
        mask_score=pinned.score if pinned else None,
        mask_stability=pinned.stability if pinned else None,
        ambiguous=found.ambiguous if found else False,
        evidence=found.evidence if found else None,
        provenance=(*before, TAGGER.name, *(role for role, key in had_part.items() if key in finding)),
    )


def _box(finding: Finding, found: Match | None, pinned: Segment | None) -> tuple[float, float, float, float] | None:
    """The segment's box; the matcher's own region where nothing was segmented."""
    if not finding.get("groundable"):
        return None
    return (pinned.box if pinned else None) or (found.region if found else None)


def _dumps(notices: Iterable[Notice]) -> list[Json]:
    return [notice.model_dump(mode="json") for notice in notices]


def _count(things: list[Any], one: str, many: str = "") -> str:
    return f"{len(things)} {one if len(things) == 1 else many or one + 's'}"


def build(checkpointer: BaseCheckpointSaver[Any] | None = None) -> Graph:
    """The compiled graph; one serves any number of posts at once. Pass it a `Context` on every run."""
    graph = StateGraph(PostState, context_schema=Context)
    graph.add_node(caption, retry_policy=RETRY)
    graph.add_node(knowledge, retry_policy=RETRY)
    graph.add_node(tag, retry_policy=RETRY)
    graph.add_node(gate)
    graph.add_node(rerank, retry_policy=RETRY)
    graph.add_node(match, retry_policy=RETRY)
    graph.add_node(trace, retry_policy=RETRY)
    graph.add_node(segment, retry_policy=RETRY)
    graph.add_node(assemble)

    visual_half = ["match", "assemble"]
    graph.add_conditional_edges(START, routes.at_start, ["caption", "knowledge", "tag"])
    graph.add_conditional_edges("caption", routes.before_tag, ["knowledge", "tag"])
    graph.add_edge("knowledge", "tag")
    graph.add_conditional_edges("tag", routes.after_tag, ["gate", "assemble"])
    graph.add_conditional_edges("gate", routes.after_gate, ["rerank", *visual_half])
    graph.add_conditional_edges("rerank", routes.before_match, visual_half)
    graph.add_conditional_edges("match", routes.after_match, ["trace", "segment", "assemble"])
    graph.add_conditional_edges("trace", routes.before_segment, ["segment", "assemble"])
    graph.add_edge("segment", "assemble")
    graph.add_edge("assemble", END)
    return graph.compile(checkpointer=checkpointer, name=NAME)


def mermaid() -> str:
    """The graph as Mermaid text."""
    return build().get_graph().draw_mermaid()


if __name__ == "__main__":
    print(mermaid())
