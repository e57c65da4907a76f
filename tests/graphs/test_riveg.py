"""The RiVEG graph: its figure, its routes, the requests to each tool, and the parts of an entity."""

import asyncio
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from namepin.graphs import riveg
from namepin.graphs.context import Context
from namepin.graphs.policy import ExpressionPolicy, MaskPolicy, MatchPolicy, Policy
from namepin.graphs.recording.recorder import Recorder
from namepin.graphs.recording.replay import replay
from namepin.graphs.run import extract_post
from namepin.graphs.state import start_state
from namepin.graphs.text_nodes import Graph
from namepin.tools.errors import ToolUnavailable
from namepin.tools.geometry import box_iou
from namepin.tools.types import Extraction, ImageRef, Post
from support.riveg_tools import BoxSegmenter, ScriptedExpansion, ScriptedGrounder, riveg_tools
from support.scripted_tools import IMAGE, Scripted, down, make_context

FIGURE = "caption examples knowledge tag gate rerank describe expand entail ground segment assemble".split()
TEXT = "Anna and Carla met Zed in Oslo"
EXPAND = "expand[0] expand[1] expand[2] expand[3]"


@pytest.fixture(scope="module")
def graph() -> Graph:
    return riveg.build()


def run(
    graph: Graph,
    text: str = TEXT,
    image: ImageRef | None = IMAGE,
    tools: dict[str, Scripted] | None = None,
    policy: Policy = Policy(),  # noqa: B008  # frozen
) -> Extraction:
    context = make_context(riveg_tools() if tools is None else tools, policy=policy)
    return asyncio.run(extract_post(graph, Post(id="p", text=text), image, context))


def path(graph: Graph, text: str, image: ImageRef | None, context: Context) -> str:
    state = start_state(Post(id="p", text=text), image)
    return " ".join(asyncio.run(graph.ainvoke(state, context=context))["path"])


def test_nodes_are_the_papers_figure(graph: Graph) -> None:
    assert [n for n in graph.get_graph().nodes if not n.startswith("__")] == FIGURE
    assert "entail -.-> ground" in riveg.mermaid()


ALL_BUT_RERANKER = tuple(riveg_tools())
SECOND = ("entailment", "grounder", "segmenter")


@pytest.mark.parametrize(
    ("text", "image", "roles", "expected"),
    [
        (TEXT, IMAGE, ALL_BUT_RERANKER, f"caption examples knowledge tag gate describe {EXPAND} entail ground segment"),
        ("Anna", IMAGE, (*ALL_BUT_RERANKER, "reranker"), "caption examples knowledge tag gate describe expand[0] "
         "entail ground segment"),
        (TEXT, IMAGE, ("tagger", "reranker", "expansion", *SECOND), f"tag gate rerank[2] describe {EXPAND} entail "
         "ground segment"),
        ("no names", IMAGE, ALL_BUT_RERANKER, "caption examples knowledge tag"),
        (TEXT, None, ALL_BUT_RERANKER, "examples knowledge tag gate"),
        ("Zara", IMAGE, ALL_BUT_RERANKER, "caption examples knowledge tag gate describe expand[0] entail"),
        ("Bob", IMAGE, ("tagger", *SECOND), "tag gate entail ground"),
        (TEXT, IMAGE, ("tagger", *SECOND), "tag gate entail ground segment"),
        (TEXT, IMAGE, ("tagger", "grounder", "segmenter"), "tag gate ground segment"),
        (TEXT, IMAGE, ("tagger", "entailment"), "tag gate entail"),
        (TEXT, IMAGE, ("tagger", "describer", "expansion"), "tag gate"),
        (TEXT, IMAGE, ("examples", "tagger"), "tag gate"),
    ],
)  # fmt: skip
def test_routes(graph: Graph, text: str, image: ImageRef | None, roles: tuple[str, ...], expected: str) -> None:
    assert path(graph, text, image, make_context(riveg_tools(*roles))) == f"{expected} assemble"


def test_several_hard_mentions_are_expanded_once_each(graph: Graph) -> None:
    tools = riveg_tools("tagger", "reranker", "expansion", *SECOND)
    assert path(graph, "Zed and Ned met", IMAGE, make_context(tools)) == (
        "tag gate rerank[0] rerank[1] describe expand[0] expand[1] entail assemble"
    )
    assert [request.entity for request in tools["expansion"].seen] == ["Zed", "Ned"]
    assert [request.label for request in tools["expansion"].seen] == ["ORG", "ORG"], "the reranked type"


def test_what_reaches_each_tool_and_what_comes_out(graph: Graph) -> None:
    tools = riveg_tools()
    anna, carla, zed, oslo = run(graph, tools=tools).entities

    assert tools["examples"].seen[0].id == "p"
    assert [e.id for e in tools["knowledge"].seen[0].examples] == ["7"]
    assert tools["expansion"].seen[0].background == "a long description"
    asked = tools["entailment"].seen
    assert len(asked) == len(tools["grounder"].seen) == len(tools["segmenter"].seen) == 1, "one batched call each"
    assert asked[0].queries[0].expression == "Anna (PER) – a PER called anna"
    assert asked[0].caption == "a picture of 64 by 48"
    assert [q.text for q in tools["grounder"].seen[0].queries] == ["Anna", "Carla"]

    assert anna.groundable and anna.match_score == 0.75 and anna.box == (0, 10, 20, 30) and anna.mask
    assert (anna.mask_score, anna.mask_stability, anna.ambiguous) == (0.9, 0.97, False)
    assert anna.expression == "Anna (PER) – a PER called anna"
    before = ("captioner", "examples", "knowledge", "tagger", "expansion", "entailment")
    assert anna.provenance == (*before, "grounder", "segmenter")
    assert zed.groundable is False and (zed.box, zed.mask) == (None, None) and zed.provenance == before
    assert oslo.label == "LOC" and oslo.match_score == 0.25
    assert carla.box == (1, 10, 21, 30), "the box stays the grounder's"


def test_a_mask_beside_its_box_is_flagged(graph: Graph) -> None:
    found = run(graph)
    assert [(w.code, "Carla" in w.message) for w in found.warnings] == [("W124", True)]
    assert [e.ambiguous for e in found.entities] == [False, True, False, False]
    assert run(graph, policy=Policy(mask=MaskPolicy(agreement=0.1))).warnings == ()


@pytest.mark.parametrize(
    ("text", "expression"),
    [("both", "Anna (PER) – a PER called anna"), ("entity", "Anna (PER)"), ("expansion", "a PER called anna")],
)
def test_expressions_of_table_x(graph: Graph, text: Any, expression: str) -> None:
    tools = riveg_tools()
    found = run(graph, "Anna", tools=tools, policy=Policy(expression=ExpressionPolicy(text=text)))
    assert found.entities[0].expression == expression
    assert len(tools["expansion"].seen) == (0 if text == "entity" else 1), "nothing is asked that nobody reads"


def test_an_expansion_that_is_missing_leaves_name_and_type(graph: Graph) -> None:
    found = run(graph, "Anna", tools=riveg_tools(expansion=ScriptedExpansion(fail=down("expansion"))))
    assert found.entities[0].expression == "Anna (PER)" and found.entities[0].box
    assert found.status == "degraded" and [w.code for w in found.warnings] == ["W103"]


def test_without_entailment_every_name_is_looked_for(graph: Graph) -> None:
    found = run(graph, "Zara met Bob", tools=riveg_tools("tagger", "grounder"))
    assert [(e.groundable, e.box is None, e.match_score) for e in found.entities] == [
        (True, False, None),
        (False, True, None),
    ]


def test_entailed_but_not_found_is_groundable_without_a_box(graph: Graph) -> None:
    bob = run(graph, "Bob").entities[0]
    assert (bob.groundable, bob.box, bob.mask, bob.match_score) == (True, None, None, 0.75)


def test_a_grounder_that_segments_needs_no_segmenter(graph: Graph) -> None:
    tools = riveg_tools("tagger", "entailment", grounder=ScriptedGrounder(config={"masks": True}))
    anna = run(graph, "Anna", tools=tools).entities[0]
    assert anna.mask and anna.mask.tight_box() == anna.box and "segmenter" not in anna.provenance
    with_segmenter = run(graph, "Anna", tools=tools | {"segmenter": BoxSegmenter()}).entities[0]
    assert "segmenter" in with_segmenter.provenance and with_segmenter.mask_score == 0.9


def test_the_threshold_is_the_policys(graph: Graph) -> None:
    assert [e.groundable for e in run(graph, policy=Policy(match=MatchPolicy(threshold=0.2))).entities] == [True] * 4
    assert [e.groundable for e in run(graph, policy=Policy(match=MatchPolicy(threshold=0.8))).entities] == [False] * 4


@pytest.mark.parametrize(
    "role", ["captioner", "examples", "knowledge", "describer", "entailment", "grounder", "segmenter"]
)
def test_a_tool_that_is_down_degrades_the_post(graph: Graph, role: str) -> None:
    tools = riveg_tools()
    tools[role].fail = down(role)
    found = run(graph, tools=tools)
    assert found.status == "degraded" and "W103" in [w.code for w in found.warnings] and len(found.entities) == 4
    assert "secret" not in found.to_json()
    if role == "entailment":
        assert {(e.groundable, e.box) for e in found.entities} == {(None, None)}, "nobody said what can be grounded"
    if role == "segmenter":
        assert found.entities[0].box and found.entities[0].mask is None


def test_forty_mentions_are_bounded(graph: Graph) -> None:
    tools = riveg_tools()
    text = " ".join(f"Anna{i}a" for i in range(40))
    found = run(graph, text, tools=tools)
    assert len(found.entities) == 40 and len(tools["expansion"].seen) == 32
    assert [len(tools[role].seen) for role in SECOND] == [1, 1, 1]
    assert found.entities[39].expression == "Anna39a (PER)"
    assert "W153" in [w.code for w in found.warnings]


@settings(max_examples=10)
@given(st.integers(0, 2**16))
def test_the_order_never_depends_on_timing(graph: Graph, seed: int) -> None:
    draw = random.Random(seed)
    slow = riveg_tools("tagger", "reranker", *SECOND, expansion=ScriptedExpansion(delay=lambda: draw.random() / 200))
    even = riveg_tools("tagger", "reranker", *SECOND, expansion=ScriptedExpansion())
    assert run(graph, tools=slow).entities == run(graph, tools=even).entities


def test_it_is_recorded_and_replayed(graph: Graph, tmp_path: Path) -> None:
    calls = make_context(riveg_tools()).calls
    texts = [TEXT, "Bob", "no names", "Zara"]
    with Recorder(tmp_path, graph=graph.name, profile={"profile": "scripted"}) as recorder:
        found = []
        for text in texts:
            post = Post(id=text, text=text)
            context = recorder.listen(Context(calls=calls), post, IMAGE)
            found.append(asyncio.run(extract_post(graph, post, IMAGE, context)))
    assert [e.to_json() for e in replay(tmp_path, check=True)] == [e.to_json() for e in found]
    [what_if, *_] = replay(tmp_path, sets={"match.threshold": 0.8})
    assert [e.groundable for e in what_if.entities] == [False] * 4
    [entity, *_] = replay(tmp_path, sets={"mask.agreement": 0.1})
    assert not any(e.ambiguous for e in entity.entities)


def test_a_grounder_that_breaks_is_named(graph: Graph) -> None:
    tools = riveg_tools(grounder=ScriptedGrounder(fail=lambda attempt: ToolUnavailable("grounder", "no answer")))
    assert any("grounder: no answer; places are unknown" in w.message for w in run(graph, tools=tools).warnings)


@pytest.mark.parametrize(
    ("one", "other", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3),
        ((0, 0, 10, 10), (20, 20, 30, 30), 0.0),
    ],
)
def test_box_iou(one: Any, other: Any, iou: float) -> None:
    assert box_iou(one, other) == pytest.approx(iou)


class WrongSize(BoxSegmenter):
    """Masks of another picture."""

    def answer(self, request: Any, media: Any) -> Any:
        import numpy as np

        from namepin.tools.interfaces import Segment, Segments
        from namepin.tools.types import Mask

        mask = Mask.from_array(np.ones((5, 7), dtype=bool))
        return Segments(segments=(Segment(mask=mask, box=(0, 0, 7, 5)),) * len(request.prompts))


def test_masks_of_another_size_are_refused(graph: Graph) -> None:
    found = run(graph, "Anna", tools=riveg_tools(segmenter=WrongSize()))
    assert found.status == "degraded" and found.entities[0].box and found.entities[0].mask is None
    assert any("a mask of 7 x 5 for a picture of 64 x 48" in w.message for w in found.warnings)
