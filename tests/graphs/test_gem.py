"""The GEM graph: its nodes, its routes, and a mention's result on each route."""

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from namepin.graphs import gem
from namepin.graphs import text_nodes as textual
from namepin.graphs.calls import LiveCalls
from namepin.graphs.context import Context
from namepin.graphs.policy import GatePolicy, MatchPolicy, Policy
from namepin.graphs.run import extract_post, failed_extraction, stream_post
from namepin.graphs.state import merge_findings, start_state
from namepin.graphs.step import RETRY, StepEvent
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.interfaces import Reranked, RerankRequest, Trace, TraceRequest, Traces
from namepin.tools.media import Media
from namepin.tools.types import Extraction, ImageRef, Notice, Post
from support.scripted_tools import (
    IMAGE,
    RegionMatcher,
    Scripted,
    ScriptedKnowledge,
    ScriptedMatcher,
    ScriptedTagger,
    down,
    make_context,
    make_tools,
)
from support.waiting import PATIENCE_S

FIGURE = ("caption", "knowledge", "tag", "gate", "rerank", "match", "trace", "segment", "assemble")
TEXT = "Anna and Bob met Zed in Oslo"  # sure, hard, hard and not in the picture, borderline and not in the picture


@pytest.fixture(scope="module")
def graph() -> gem.Graph:
    return gem.build()


def run(
    graph: gem.Graph, text: str = TEXT, image: ImageRef | None = IMAGE, context: Context | None = None, **more: Any
) -> Extraction:
    post = Post(id="p", text=text)
    return asyncio.run(extract_post(graph, post, image, context or make_context(), **more))


def path(graph: gem.Graph, text: str, image: ImageRef | None, context: Context) -> list[str]:
    state = start_state(Post(id="p", text=text), image)
    return list(asyncio.run(graph.ainvoke(state, context=context))["path"])


def test_gem_graph_nodes_equal_paper_figure(graph: gem.Graph) -> None:
    assert tuple(n for n in graph.get_graph().nodes if not n.startswith("__")) == FIGURE


def test_gem_mermaid_shows_every_edge() -> None:
    text = gem.mermaid()
    for arrow in ("tag -.-> assemble", "gate -.-> rerank", "rerank -.-> match", "match -.-> trace", "segment --> ass"):
        assert arrow in text


VISUAL = ("matcher", "tracer", "segmenter")


@pytest.mark.parametrize(
    ("text", "image", "roles", "expected"),
    [
        (TEXT, IMAGE, (), "caption knowledge tag gate rerank[1] rerank[2] match trace segment assemble"),
        ("Anna", IMAGE, (), "caption knowledge tag gate match trace segment assemble"),
        ("no names here", IMAGE, (), "caption knowledge tag assemble"),
        (TEXT, None, (), "knowledge tag gate rerank[1] rerank[2] assemble"),
        ("Anna", None, (), "knowledge tag gate assemble"),
        ("Zara", IMAGE, (), "caption knowledge tag gate match assemble"),
        (TEXT, IMAGE, ("tagger",), "tag gate assemble"),
        (TEXT, IMAGE, ("tagger", *VISUAL), "tag gate match trace segment assemble"),
        (TEXT, IMAGE, ("captioner", "tagger"), "caption tag gate assemble"),
        (TEXT, IMAGE, ("tagger", "reranker"), "tag gate rerank[1] rerank[2] assemble"),
        (TEXT, IMAGE, ("tagger", "matcher", "tracer"), "tag gate match trace assemble"),
        (TEXT, IMAGE, ("tagger", "matcher", "segmenter"), "tag gate match assemble"),
        (TEXT, IMAGE, ("tagger", "tracer", "segmenter"), "tag gate assemble"),
    ],
)
def test_gem_graph_route_depends_on_text_picture_and_tools(
    graph: gem.Graph, text: str, image: ImageRef | None, roles: tuple[str, ...], expected: str
) -> None:
    assert path(graph, text, image, make_context(make_tools(*roles))) == expected.split()


def test_gem_graph_without_tracer_prompts_segmenter_with_region(graph: gem.Graph) -> None:
    tools = make_tools("tagger", "segmenter", matcher=RegionMatcher())
    assert path(graph, "Anna", IMAGE, make_context(tools)) == ["tag", "gate", "match", "segment", "assemble"]
    assert tools["segmenter"].seen[0].prompts[0].box == (8, 8, 40, 40)


def test_gem_graph_with_every_tool_fills_entity_fields_and_provenance(graph: gem.Graph) -> None:
    tools = make_tools()
    anna, bob, zed, oslo = run(graph, context=make_context(tools)).entities
    before = ("captioner", "knowledge", "tagger")

    assert (anna.label, anna.fine_label, anna.reranked) == ("PER", "politician", False)
    assert anna.groundable and anna.box == (8, 18, 12, 22) and anna.peak == (10, 20) and anna.mask is not None
    assert anna.provenance == (*before, "matcher", "tracer", "segmenter")

    assert (bob.label, bob.fine_label, bob.reranked) == ("ORG", "company", True), "a fine label brings its parent"
    assert bob.provenance == (*before, "reranker", "matcher", "tracer", "segmenter")
    assert bob.scores["politician"] == 0.4, "scores and entropy stay the tagger's"

    assert zed.reranked and zed.groundable is False and zed.match_score == 0.25
    assert (zed.box, zed.mask, zed.peak) == (None, None, None)
    assert zed.provenance == (*before, "reranker", "matcher")

    assert (oslo.near_gamma, oslo.reranked) == (True, False)
    assert not any(entity.near_gamma for entity in (anna, bob, zed))

    queries = {query.text: query.category for query in tools["matcher"].seen[0].queries}
    assert queries == {"Anna": "politician", "Bob": "company", "Zed": "company", "Oslo": "city"}, "reranked types"
    assert tools["reranker"].seen[0].candidates[:2] == ("politician", "actor")
    assert tools["reranker"].seen[0].caption == tools["knowledge"].seen[0].caption == "a picture of 64 by 48"
    assert tools["tagger"].seen[0].knowledge_style == "scripted"
    assert [len(tools[role].seen) for role in VISUAL] == [1, 1, 1], "one batched call each"
    assert [query.query.text for query in tools["tracer"].seen[0].queries] == ["Anna", "Bob"]


def test_gem_graph_without_picture_leaves_grounding_unknown(graph: gem.Graph) -> None:
    result = run(graph, image=None)
    assert (result.image, result.status, result.warnings) == (None, "ok", ())
    assert {(e.groundable, e.match_score, e.box) for e in result.entities} == {(None, None, None)}
    assert list(result.timings_ms) == ["knowledge", "tagger", "reranker"]


def test_gem_graph_with_tokens_keeps_tokens_and_extra(graph: gem.Graph) -> None:
    post = Post(id="p", tokens=("Anna-", "Lena", "'s", "dog"), extra={"row": 7}, text="Anna- Lena 's dog")
    result = asyncio.run(extract_post(graph, post, None, make_context()))
    assert result.tokens == post.tokens and result.extra == {"row": 7}


def test_gem_graph_two_mentions_in_one_region_are_ambiguous(graph: gem.Graph) -> None:
    tools = make_tools("tagger", "tracer", matcher=RegionMatcher())
    first, second = run(graph, "Anna Berta", context=make_context(tools)).entities
    assert first.box == second.box == (8, 8, 40, 40), "without a segmenter, the box is the matcher's region"
    assert first.ambiguous and second.ambiguous and first.evidence == "a face"


class EmptyTracer(Scripted):
    name = "tracer"

    def answer(self, request: TraceRequest, media: Media) -> Traces:
        return Traces(traces=tuple(Trace(peak=None) for _ in request.queries))


def test_gem_graph_with_empty_trace_is_groundable_without_box(graph: gem.Graph) -> None:
    """Groundable with a null box is legal: the matcher says yes, the map is empty, there is no region."""
    tools = make_tools("tagger", "matcher", "segmenter", tracer=EmptyTracer())
    (anna,) = run(graph, "Anna", context=make_context(tools)).entities
    assert (anna.groundable, anna.box, anna.peak) == (True, None, None)
    assert anna.provenance == ("tagger", "matcher", "tracer") and not tools["segmenter"].seen


def test_gem_graph_with_forty_mentions_returns_all_in_order(graph: gem.Graph) -> None:
    result = run(graph, " ".join(f"Bob{i}x" for i in range(40)))
    assert [entity.text for entity in result.entities] == [f"Bob{i}x" for i in range(40)]
    assert all(entity.reranked and entity.box for entity in result.entities)


@pytest.mark.parametrize(
    ("policy", "reranked", "near", "groundable"),
    [
        (Policy(), [False, True, True, False], [False, False, False, True], [True, True, False, False]),
        (Policy(gate=GatePolicy(gamma=2)), [False] * 4, [False] * 4, [True, True, False, False]),
        (Policy(gate=GatePolicy(gamma=0)), [True] * 4, [False] * 4, [True, True, False, False]),
        (Policy(gate=GatePolicy(margin=0)), [False, True, True, False], [False] * 4, [True, True, False, False]),
        (Policy(match=MatchPolicy(threshold=0.75)), [False, True, True, False], None, [True, True, False, False]),
        (Policy(match=MatchPolicy(threshold=0.76)), [False, True, True, False], None, [False] * 4),
        (Policy(match=MatchPolicy(threshold=0.25)), [False, True, True, False], None, [True] * 4),
    ],
)
def test_gem_graph_policy_sets_reranked_near_gamma_and_groundable(
    graph: gem.Graph, policy: Policy, reranked: list[bool], near: list[bool] | None, groundable: list[bool]
) -> None:
    result = run(graph, context=make_context(policy=policy))
    assert [entity.reranked for entity in result.entities] == reranked
    assert near is None or [entity.near_gamma for entity in result.entities] == near
    assert [entity.groundable for entity in result.entities] == groundable


WITHOUT = {
    "captioner": "without a caption",
    "knowledge": "without knowledge",
    "tagger": "no names were looked for",
    "reranker": "the tagger's type stands",
    "matcher": "nothing was looked for in the picture",
    "tracer": "places are the matcher's",
    "segmenter": "boxes are the matcher's",
}


@pytest.mark.parametrize("role", WITHOUT)
def test_gem_graph_with_tool_down_degrades_post_with_w103(graph: gem.Graph, role: str) -> None:
    tools = make_tools()
    tools[role].fail = down(role)
    result = run(graph, context=make_context(tools))
    assert result.status == "degraded"
    (warning,) = result.warnings
    assert (warning.code, warning.tool) == ("W103", role) and WITHOUT[role] in warning.message
    assert "me:secret" not in result.to_json()
    assert all(role not in entity.provenance for entity in result.entities)
    assert len(result.entities) == (0 if role == "tagger" else 4)
    assert result.tokens == tuple(TEXT.split())


def test_gem_graph_with_one_failing_rerank_branch_keeps_other(graph: gem.Graph) -> None:
    tools = make_tools()
    tools["reranker"].delay = iter((0.0, 0.05)).__next__
    tools["reranker"].fail = lambda attempt: ToolUnavailable("reranker", "busy") if attempt == 1 else None
    result = run(graph, context=make_context(tools))
    assert sorted(entity.reranked for entity in result.entities) == [False, False, False, True]
    assert result.status == "degraded" and len(result.warnings) == 1


@pytest.mark.parametrize("error", [ConnectionError("refused"), TimeoutError("slow")])
@pytest.mark.parametrize(("failures", "status"), [(2, "ok"), (3, "degraded")])
def test_gem_graph_transient_failures_are_retried_twice(
    monkeypatch: pytest.MonkeyPatch, error: Exception, failures: int, status: str
) -> None:
    monkeypatch.setattr(gem, "RETRY", RETRY._replace(initial_interval=0.0, jitter=False))
    tools = make_tools()
    tools["matcher"].fail = lambda attempt: error if attempt <= failures else None
    result = run(gem.build(), context=make_context(tools))
    assert (result.status, len(tools["matcher"].seen)) == (status, 3)


def test_gem_graph_unavailable_tool_is_called_once(graph: gem.Graph) -> None:
    tools = make_tools(knowledge=ScriptedKnowledge(fail=down("knowledge")))
    run(graph, context=make_context(tools))
    assert len(tools["knowledge"].seen) == 1


def test_gem_graph_with_hung_tool_degrades_post(graph: gem.Graph) -> None:
    tools = make_tools("tagger", matcher=ScriptedMatcher(delay=lambda: 2.0))
    result = run(graph, context=Context(calls=LiveCalls(tools, timeout_s=1)))
    assert result.status == "degraded" and "no answer within 1 s" in result.warnings[0].message


def test_gem_graph_with_defective_tool_raises_its_error(graph: gem.Graph) -> None:
    tools = make_tools()
    tools["matcher"].fail = lambda attempt: ValueError("a defect")
    with pytest.raises(ValueError, match="a defect"):
        run(graph, context=make_context(tools))


class StrayReranker(Scripted):
    name = "reranker"

    def answer(self, request: RerankRequest, media: Media) -> Reranked:
        return Reranked(label="festival")


def test_gem_graph_reranker_answer_outside_candidates_keeps_tagger_label(graph: gem.Graph) -> None:
    result = run(graph, context=make_context(make_tools(reranker=StrayReranker())))
    assert [entity.fine_label for entity in result.entities] == ["politician", "politician", "politician", "city"]
    assert result.status == "degraded" and "'festival'" in result.warnings[0].message
    assert len(result.warnings) == 1, "the same warning of two branches is given once"


@pytest.mark.parametrize(
    ("label", "expected"),
    [("PER", ("PER", None)), ("athlete", ("PER", "athlete")), ("common_person", ("PER", "person_other"))],
)
def test_split_label_returns_coarse_and_fine_type(label: str, expected: tuple[str, str | None]) -> None:
    assert textual.split_label(label) == expected


@pytest.mark.parametrize(("requested", "codes"), [((), []), (("knowledge", "tagger"), ["W102"])])
def test_gem_graph_without_asked_tool_warns_w102(graph: gem.Graph, requested: Sequence[str], codes: list[str]) -> None:
    """Silent in the warnings unless it was asked for; never in the provenance; not a degradation."""
    context = make_context(make_tools("tagger", *VISUAL), requested=frozenset(requested))
    result = run(graph, context=context)
    assert ([warning.code for warning in result.warnings], result.status) == (codes, "ok")
    assert result.entities[0].provenance == ("tagger", "matcher", "tracer", "segmenter")


def test_gem_graph_with_missing_picture_notice_degrades_post(graph: gem.Graph) -> None:
    notice = Notice(code="W101", tool="picture", message="not found")
    result = run(graph, image=None, notices=(notice,))
    assert (result.status, result.warnings) == ("degraded", (notice,))


def test_stream_post_yields_started_and_finished_event_per_step(graph: gem.Graph) -> None:
    async def events() -> list[StepEvent | Extraction]:
        post = Post(id="p", text=TEXT)
        return [event async for event in stream_post(graph, post, IMAGE, make_context())]

    *steps, result = asyncio.run(events())
    assert isinstance(result, Extraction)
    steps = [step for step in steps if isinstance(step, StepEvent)]
    begun = [(step.step, step.index) for step in steps if step.phase == "started"]
    ended = [(step.step, step.index) for step in steps if step.phase == "finished"]
    assert [name for name, _ in dict.fromkeys(begun)] == [*FIGURE[:4], "rerank", "rerank", *FIGURE[5:]]
    assert sorted(begun, key=str) == sorted(ended, key=str)
    summaries = {step.step: step.summary for step in steps if step.phase == "finished"}
    assert summaries["tag"] == "4 mentions" and summaries["match"] == "2 of 4 in the picture"
    assert all(step.ms is not None and step.ms >= 0 for step in steps if step.phase == "finished")


def test_extract_post_of_two_posts_runs_concurrently(graph: gem.Graph) -> None:
    """Both taggers wait for each other: the posts can only end if they run at the same time."""
    meeting = threading.Barrier(2)
    tagger = ScriptedTagger(delay=lambda: 0.0 * meeting.wait(timeout=PATIENCE_S))
    calls = LiveCalls(make_tools("tagger", tagger=tagger))

    async def both() -> list[Extraction]:
        posts = (Post(id=name, text=name) for name in ("Anna", "Bob"))
        return await asyncio.gather(*(extract_post(graph, post, None, Context(calls=calls)) for post in posts))

    assert [result.entities[0].text for result in asyncio.run(both())] == ["Anna", "Bob"]


def test_gem_graph_state_is_plain_json_at_every_checkpoint(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that a serialiser would warn about or reject, and no path."""
    graph = gem.build(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "t"}}
    post = Post(id="p", text=TEXT, image="/home/me/photo.jpg")
    asyncio.run(extract_post(graph, post, IMAGE, make_context(), config=config))
    states = [snapshot.values for snapshot in graph.get_state_history(config)]
    assert len(states) > 9
    assert all(json.loads(json.dumps(state)) == state for state in states)
    assert "photo.jpg" not in json.dumps(states)
    assert not caplog.records


def test_fingerprint_depends_on_tools_and_policy_only(graph: gem.Graph) -> None:
    def mark(**fields: Any) -> str:
        return make_context(**fields).fingerprint(graph.name)

    stricter = Policy(match=MatchPolicy(threshold=0.6))
    changed_tagger = make_tools(tagger=ScriptedTagger(config={"alpha": 0.2}))
    assert mark() == mark(requested=frozenset({"tagger"}))
    prints = {mark(), mark(tools=changed_tagger), mark(tools=make_tools("tagger")), mark(policy=stricter)}
    assert len(prints) == 4


def test_merge_findings_is_independent_of_order() -> None:
    one, two = {"index": 0, "label": "PER"}, {"index": 3, "label": "ORG"}
    start = [{"index": 0, "near_gamma": True}]
    assert merge_findings(merge_findings(start, [two]), [one]) == merge_findings(merge_findings(start, [one]), [two])  # type: ignore[list-item]


def test_failed_extraction_holds_error_as_w100() -> None:
    error = NamepinError("E124", "the picture is truncated", where="a.jpg")
    result = failed_extraction(Post(id="p", text="Anna met Bob"), IMAGE, error, "f" * 64)
    assert (result.status, result.tokens) == ("failed", ("Anna", "met", "Bob"))
    assert result.warnings[0].code == "W100" and result.warnings[0].message.startswith("E124: ")
    assert Extraction.model_validate_json(result.to_json()) == result


def test_gem_graph_with_coarse_tagger_reranks_among_four_types(graph: gem.Graph) -> None:
    tools = make_tools("tagger", "reranker", tagger=CoarseTagger())
    (entity,) = run(graph, "Anna", context=make_context(tools)).entities
    assert tools["reranker"].seen[0].candidates == ("PER", "ORG", "LOC", "OTHER")
    assert (entity.label, entity.fine_label, entity.reranked) == ("OTHER", None, True)


class CoarseTagger(ScriptedTagger):
    def answer(self, request: Any, media: Media) -> Any:
        tags = super().answer(request, media)
        scores = {"LOC": 0.2, "ORG": 0.2000001, "PER": 0.4, "OTHER": 0.1999}
        coarse = [m.model_copy(update={"fine_label": None, "scores": scores, "entropy": 1.3}) for m in tags.mentions]
        return tags.model_copy(update={"mentions": tuple(coarse)})
