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


def test_riveg_graph_nodes_equal_paper_figure(graph: Graph) -> None:
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
def test_riveg_graph_route_depends_on_text_picture_and_tools(
    graph: Graph, text: str, image: ImageRef | None, roles: tuple[str, ...], expected: str
) -> None:
    assert path(graph, text, image, make_context(riveg_tools(*roles))) == f"{expected} assemble"


def test_riveg_graph_with_two_hard_mentions_expands_each_once(graph: Graph) -> None:
    tools = riveg_tools("tagger", "reranker", "expansion", *SECOND)
    assert path(graph, "Zed and Ned met", IMAGE, make_context(tools)) == (
        "tag gate rerank[0] rerank[1] describe expand[0] expand[1] entail assemble"
    )
    assert [request.entity for request in tools["expansion"].seen] == ["Zed", "Ned"]
    assert [request.label for request in tools["expansion"].seen] == ["ORG", "ORG"], "the reranked type"


def test_riveg_graph_passes_each_tool_its_inputs_and_fills_entities(graph: Graph) -> None:
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


def test_riveg_graph_mask_beside_box_is_flagged_ambiguous_with_w124(graph: Graph) -> None:
    found = run(graph)
    assert [(w.code, "Carla" in w.message) for w in found.warnings] == [("W124", True)]
    assert [e.ambiguous for e in found.entities] == [False, True, False, False]
    assert run(graph, policy=Policy(mask=MaskPolicy(agreement=0.1))).warnings == ()


@pytest.mark.parametrize(
    ("text", "expression"),
    [("both", "Anna (PER) – a PER called anna"), ("entity", "Anna (PER)"), ("expansion", "a PER called anna")],
)
def test_riveg_expression_policy_selects_text_of_table_x(graph: Graph, text: Any, expression: str) -> None:
    tools = riveg_tools()
    found = run(graph, "Anna", tools=tools, policy=Policy(expression=ExpressionPolicy(text=text)))
    assert found.entities[0].expression == expression
    assert len(tools["expansion"].seen) == (0 if text == "entity" else 1), "nothing is asked that nobody reads"


def test_riveg_graph_with_expansion_down_uses_name_and_type(graph: Graph) -> None:
    found = run(graph, "Anna", tools=riveg_tools(expansion=ScriptedExpansion(fail=down("expansion"))))
    assert found.entities[0].expression == "Anna (PER)" and found.entities[0].box
    assert found.status == "degraded" and [w.code for w in found.warnings] == ["W103"]


def test_riveg_graph_without_entailment_grounds_every_mention(graph: Graph) -> None:
    found = run(graph, "Zara met Bob", tools=riveg_tools("tagger", "grounder"))
    assert [(e.groundable, e.box is None, e.match_score) for e in found.entities] == [
        (True, False, None),
        (False, True, None),
    ]


def test_riveg_graph_entailed_without_grounding_has_no_box(graph: Graph) -> None:
    bob = run(graph, "Bob").entities[0]
    assert (bob.groundable, bob.box, bob.mask, bob.match_score) == (True, None, None, 0.75)


def test_riveg_graph_with_mask_grounder_needs_no_segmenter(graph: Graph) -> None:
    tools = riveg_tools("tagger", "entailment", grounder=ScriptedGrounder(config={"masks": True}))
    anna = run(graph, "Anna", tools=tools).entities[0]
    assert anna.mask and anna.mask.tight_box() == anna.box and "segmenter" not in anna.provenance
    with_segmenter = run(graph, "Anna", tools=tools | {"segmenter": BoxSegmenter()}).entities[0]
    assert "segmenter" in with_segmenter.provenance and with_segmenter.mask_score == 0.9


def test_riveg_graph_match_threshold_decides_groundable(graph: Graph) -> None:
    assert [e.groundable for e in run(graph, policy=Policy(match=MatchPolicy(threshold=0.2))).entities] == [True] * 4
    assert [e.groundable for e in run(graph, policy=Policy(match=MatchPolicy(threshold=0.8))).entities] == [False] * 4


@pytest.mark.parametrize(
    "role", ["captioner", "examples", "knowledge", "describer", "entailment", "grounder", "segmenter"]
)
def test_riveg_graph_with_tool_down_degrades_post_with_w103(graph: Graph, role: str) -> None:
    tools = riveg_tools()
    tools[role].fail = down(role)
    found = run(graph, tools=tools)
    assert found.status == "degraded" and "W103" in [w.code for w in found.warnings] and len(found.entities) == 4
    assert "secret" not in found.to_json()
    if role == "entailment":
        assert {(e.groundable, e.box) for e in found.entities} == {(None, None)}, "nobody said what can be grounded"
    if role == "segmenter":
        assert found.entities[0].box and found.entities[0].mask is None


def test_riveg_graph_with_forty_mentions_bounds_expansions_with_w153(graph: Graph) -> None:
    tools = riveg_tools()
    text = " ".join(f"Anna{i}a" for i in range(40))
    found = run(graph, text, tools=tools)
    assert len(found.entities) == 40 and len(tools["expansion"].seen) == 32
    assert [len(tools[role].seen) for role in SECOND] == [1, 1, 1]
    assert found.entities[39].expression == "Anna39a (PER)"
    assert "W153" in [w.code for w in found.warnings]


@settings(max_examples=10)
@given(st.integers(0, 2**16))
def test_riveg_graph_with_random_delays_keeps_entity_order(graph: Graph, seed: int) -> None:
    draw = random.Random(seed)
    slow = riveg_tools("tagger", "reranker", *SECOND, expansion=ScriptedExpansion(delay=lambda: draw.random() / 200))
    even = riveg_tools("tagger", "reranker", *SECOND, expansion=ScriptedExpansion())
    assert run(graph, tools=slow).entities == run(graph, tools=even).entities


def test_riveg_graph_recording_replays_and_answers_what_if(graph: Graph, tmp_path: Path) -> None:
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


def test_riveg_graph_with_grounder_down_names_it_in_warning(graph: Graph) -> None:
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
def test_box_iou_of_two_boxes_equals_overlap_ratio(one: Any, other: Any, iou: float) -> None:
    assert box_iou(one, other) == pytest.approx(iou)


class WrongSize(BoxSegmenter):
    """Masks of another picture."""

    def answer(self, request: Any, media: Any) -> Any:
        import numpy as np

        from namepin.tools.interfaces import Segment, Segments
        from namepin.tools.types import Mask

        mask = Mask.from_array(np.ones((5, 7), dtype=bool))
        return Segments(segments=(Segment(mask=mask, box=(0, 0, 7, 5)),) * len(request.prompts))


def test_riveg_graph_with_mask_of_wrong_size_drops_mask(graph: Graph) -> None:
    found = run(graph, "Anna", tools=riveg_tools(segmenter=WrongSize()))
    assert found.status == "degraded" and found.entities[0].box and found.entities[0].mask is None
    assert any("a mask of 7 x 5 for a picture of 64 x 48" in w.message for w in found.warnings)
