"""Record and replay: byte-identical, in any order of events; a changed graph is found; what-if questions."""

import asyncio
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from namepin.graphs import gem, routes
from namepin.graphs import text_nodes as textual
from namepin.graphs.calls import LiveCalls
from namepin.graphs.context import Context
from namepin.graphs.recording.recorder import Recorder
from namepin.graphs.recording.replay import replay
from namepin.graphs.run import extract_post
from namepin.tools.errors import Exit, NamepinError
from namepin.tools.media import Media
from namepin.tools.types import Notice, Post
from support.recording import TEXT, lines, record, reseal, texts_of, without_clock
from support.scripted_tools import ALL, IMAGE, Scripted, down, make_context, make_tools


def test_replay_of_moved_cassette_is_byte_identical(tmp_path: Path) -> None:
    recorded = record(tmp_path / "tape")
    shutil.copytree(tmp_path / "tape", tmp_path / "elsewhere")
    shutil.rmtree(tmp_path / "tape")
    for _ in range(2):
        assert texts_of(list(replay(tmp_path / "elsewhere", check=True))) == texts_of(recorded)
        assert texts_of(list(replay(tmp_path / "elsewhere"))) == texts_of(recorded)
    assert [result.id for result in recorded] == ["Anna", "Bob", "no"]


NAMES = st.sampled_from(["Anna", "Bob", "Zed", "Oslo", "Éva", "and", "\u2028", "🦊", "李", "'s", "Mia…"])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(NAMES, min_size=1, max_size=6), roles=st.sets(st.sampled_from(sorted(ALL))))
def test_replay_of_generated_posts_equals_recording(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], roles: set[str]
) -> None:
    tape = tmp_path_factory.mktemp("tape")
    recorded = record(tape, ["x " + " ".join(words)], make_tools(*roles, "tagger"))
    assert texts_of(list(replay(tape, check=True))) == texts_of(recorded)


def test_recording_with_random_delays_is_independent_of_event_order(tmp_path: Path) -> None:
    """Posts and branches finish in another order on every run; results and cassettes do not differ in a byte."""
    text = " ".join(f"Bob{i}x" for i in range(6))
    taped = []
    for seed in range(3):
        delays, tools = random.Random(seed), make_tools()
        for tool in tools.values():
            tool.delay = lambda delays=delays: delays.uniform(0, 0.02)
        results = record(tmp_path / str(seed), [text, TEXT, "Zed Zara"], tools)
        plain = [result.model_copy(update={"timings_ms": {}}).to_json() for result in results]
        taped.append((plain, without_clock(tmp_path / str(seed))))
    assert taped[0] == taped[1] == taped[2]


def test_replay_builds_no_tool_and_imports_no_torch(tmp_path: Path) -> None:
    record(tmp_path)
    code = (
        "import sys, pathlib; from namepin.graphs.recording.replay import replay;"
        "print(len(list(replay(pathlib.Path(sys.argv[1]), check=True))), {'torch', 'cv2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["3", "set()"]


def test_replay_of_degraded_run_stays_degraded(tmp_path: Path) -> None:
    tools = make_tools()
    tools["segmenter"].fail = down("segmenter")
    recorded = record(tmp_path, tools=tools)
    assert [result.status for result in recorded] == ["degraded", "degraded", "ok"]
    assert texts_of(list(replay(tmp_path, check=True))) == texts_of(recorded)


def test_replay_of_retried_call_uses_successful_answer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gem, "RETRY", gem.RETRY._replace(initial_interval=0.0, jitter=False))
    tools = make_tools()
    tools["matcher"].fail = lambda attempt: ConnectionError("refused") if attempt == 1 else None
    (recorded,) = record(tmp_path, [TEXT], tools)
    assert recorded.status == "ok" and texts_of(list(replay(tmp_path, check=True))) == [recorded.to_json()]


def test_replay_keeps_loading_notices_and_missing_tool_warnings(tmp_path: Path) -> None:
    graph, post = gem.build(), Post(id="p", text=TEXT)
    notices = (Notice(code="W101", tool="picture", message="not found"),)
    with Recorder(tmp_path, graph=graph.name, profile={}) as recorder:
        context = make_context(make_tools("tagger"), requested=frozenset({"knowledge"}))
        listened = recorder.listen(context, post, None, notices)
        recorded = asyncio.run(extract_post(graph, post, None, listened, notices=notices))
    assert [warning.code for warning in recorded.warnings] == ["W101", "W102"]
    assert texts_of(list(replay(tmp_path, check=True))) == [recorded.to_json()]


# A changed graph


def changed_label(label: str) -> tuple[str, str | None]:
    return "PER", "athlete"


def changed_query(state: Any, index: int) -> Any:
    return QUERY_OF(state, index).model_copy(update={"category": "thing"})


async def never_rerank(state: Any, runtime: Any) -> str:
    return await routes.before_match(state, runtime)


async def give_up(state: Any, runtime: Any) -> str:
    return "assemble"


QUERY_OF = gem.query_of


@pytest.mark.parametrize(
    ("where", "name", "change", "expected"),
    [
        (
            textual,
            "split_label",
            changed_label,
            'step 5 (rerank[1], rerank[2]), state field findings[1].label: recorded "O',
        ),
        (
            gem,
            "query_of",
            changed_query,
            "step 6: the recording has match, the replay makes a new call to the matcher, queries[0].category",
        ),
        (
            routes,
            "after_gate",
            never_rerank,
            "step 5: the recording has rerank[1], rerank[2], the replay makes a new call to the matcher, queries[1]",
        ),
        (routes, "after_match", give_up, "step 7: the recording has trace, the replay assemble"),
        (gem, "NAME", "gem-3", "the result, field fingerprint: recorded"),
        (gem, "_box", lambda *_: None, "step 9 (assemble), state field entities[0].box: recorded [8.0, 18.0, 12.0, 22"),
    ],
)
def test_replay_check_with_changed_node_names_first_difference(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: Any, name: str, change: Any, expected: str
) -> None:
    record(tmp_path, [TEXT])
    list(replay(tmp_path, check=True))
    monkeypatch.setattr(where, name, change)
    with pytest.raises(NamepinError) as caught:
        list(replay(tmp_path, check=True))
    assert (caught.value.code, caught.value.exit_code) == ("E403", Exit.DIVERGED)
    assert "post 'Anna'" in str(caught.value) and expected in str(caught.value)


def test_replay_check_with_changed_result_raises_divergence(tmp_path: Path) -> None:
    record(tmp_path)
    reseal(tmp_path, '"score":0.25', '"score":0.35')
    with pytest.raises(NamepinError, match=r"step 6 \(match\).*match.score: recorded 0.25, replayed 0.35"):
        list(replay(tmp_path, check=True))


def test_replay_without_check_returns_changed_result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    record(tmp_path, [TEXT])
    monkeypatch.setattr(gem, "_box", lambda *_: None)
    (result,) = replay(tmp_path)
    assert [entity.box for entity in result.entities] == [None] * 4


# What if


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ({"match.threshold": 0.8}, [False, False, False]),
        ({"match.threshold": "0.65"}, [True, False, False]),
        ({"gate.margin": 2}, [True, False, True]),
        ({"segmenter.backend": "off"}, [True, False, True]),
        ({"matcher.backend": "off"}, [None, None, None]),
    ],
)
def test_replay_with_sets_needs_no_new_call(tmp_path: Path, sets: dict[str, Any], expected: list[bool | None]) -> None:
    record(tmp_path, ["Anna Zed Clara"], make_tools(matcher=GradedMatcher()))
    before = without_clock(tmp_path)
    (result,) = replay(tmp_path, sets=sets)
    assert [entity.groundable for entity in result.entities] == expected
    assert [entity.peak is not None for entity in result.entities] == [bool(found) for found in expected]
    assert ("segmenter" in result.timings_ms) == (any(expected) and "segmenter.backend" not in sets)
    assert without_clock(tmp_path) == before


class GradedMatcher(ALL["matcher"]):  # type: ignore[misc]
    """Anna 0.7, Zed 0.25, Clara 0.6."""

    def answer(self, request: Any, media: Media) -> Any:
        result = super().answer(request, media)
        graded = {"Anna": 0.7, "Clara": 0.6}
        matches = [
            match.model_copy(update={"score": graded.get(query.text, match.score)})
            for query, match in zip(request.queries, result.matches, strict=True)
        ]
        return result.model_copy(update={"matches": tuple(matches)})


def test_replay_with_stricter_threshold_answers_from_part_of_recorded_batch(tmp_path: Path) -> None:
    """A stricter threshold asks tracer and segmenter about fewer mentions: the recorded batch holds the answers."""
    (recorded,) = record(tmp_path, ["Anna Zed Clara"], make_tools(matcher=GradedMatcher()))
    (result,) = replay(tmp_path, sets={"match.threshold": 0.65})
    assert result.entities[0] == recorded.entities[0] and result.entities[2].box is None
    assert result.fingerprint != recorded.fingerprint
    with pytest.raises(NamepinError, match="E403"):
        list(replay(tmp_path, sets={"match.threshold": 0.65}, check=True))


@pytest.mark.parametrize(
    ("sets", "tool"),
    [({"gate.gamma": 0.01}, "reranker"), ({"gate.gamma": 2.0}, "matcher"), ({"tagger.alpha": 0.5}, "tagger")],
)
def test_replay_with_unrecorded_call_raises_e402_with_tool(tmp_path: Path, sets: dict[str, Any], tool: str) -> None:
    record(tmp_path, [TEXT])
    with pytest.raises(NamepinError, match=f"E402: .* no such call to the {tool}: .*'Anna'.*--fill") as caught:
        list(replay(tmp_path, sets=sets))
    assert caught.value.exit_code == Exit.UNUSABLE


def make_builder(**replaced: Scripted) -> tuple[Callable[[str], Scripted], list[str]]:
    built: list[str] = []
    tools = make_tools(**replaced)

    def build(role: str) -> Scripted:
        built.append(role)
        return tools[role]

    return build, built


def test_replay_fill_makes_missing_calls_only_and_stores_them(tmp_path: Path) -> None:
    record(tmp_path, [TEXT, "no names"])
    build, built = make_builder()
    sets = {"gate.gamma": 0.01}
    pictures: list[str | None] = []

    def media(post: Post, image: Any) -> Media:
        pictures.append(post.image)
        return Media(images={image.sha256: object()})  # type: ignore[dict-item]  # the doubles look at no pixels

    filled = list(replay(tmp_path, sets=sets, tools=build, media=media))
    assert sorted(built) == ["matcher", "reranker", "segmenter", "tracer"] and pictures == ["photo.jpg"]
    assert [entity.reranked for entity in filled[0].entities] == [True] * 4
    live = gem.build()
    fresh = asyncio.run(
        extract_post(live, Post(id="Anna", text=TEXT), IMAGE, Context(make_context().calls, policy=policy(sets)))
    )
    assert filled[0].entities == fresh.entities

    assert [r.entities for r in replay(tmp_path, sets=sets)] == [r.entities for r in filled], "kept"
    list(replay(tmp_path, check=True))


def policy(sets: dict[str, Any]) -> Any:
    from namepin.graphs.policy import GatePolicy, Policy

    return Policy(gate=GatePolicy(gamma=sets["gate.gamma"]))


def test_replay_fill_with_other_tool_setting_calls_that_tool(tmp_path: Path) -> None:
    record(tmp_path, [TEXT])
    build, built = make_builder(segmenter=ALL["segmenter"](config={"grow": 2}))
    media = make_media
    (result,) = replay(tmp_path, sets={"segmenter.grow": 2}, tools=build, media=media)
    assert built == ["segmenter"] and result.entities[0].box is not None
    assert len([row for row in lines(tmp_path, "call") if row["tool"] == "segmenter"]) == 2


def make_media(post: Post, image: Any) -> Media:
    return Media(images={image.sha256: object()})  # type: ignore[dict-item]


def test_replay_fill_with_other_weights_raises_e405(tmp_path: Path) -> None:
    record(tmp_path, [TEXT])
    build, _ = make_builder(reranker=ALL["reranker"](config={"weights": "newer"}))
    with pytest.raises(NamepinError, match="E405"):
        list(replay(tmp_path, sets={"gate.gamma": 0.01}, tools=build, media=make_media))


def test_replay_fill_without_picture_raises_e406(tmp_path: Path) -> None:
    record(tmp_path, [TEXT])
    build, _ = make_builder()
    with pytest.raises(NamepinError, match="E406.*'Anna'"):
        list(replay(tmp_path, sets={"gate.gamma": 0.01}, tools=build))


def test_replay_fill_with_failed_call_stores_nothing(tmp_path: Path) -> None:
    record(tmp_path, [TEXT])
    before = without_clock(tmp_path)
    build, _ = make_builder(reranker=ALL["reranker"](fail=down("reranker")))
    (result,) = replay(tmp_path, sets={"gate.gamma": 0.1}, tools=build, media=make_media)
    assert result.status == "degraded" and without_clock(tmp_path) == before


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({"gate.gama": 1}, "did you mean gate.gamma?"),
        ({"nonsense": 1}, "gate.gamma, gate.k, gate.margin, gate.uncertain, match.threshold"),
        ({"gate.k": 1}, "gate.k: .* not 1"),
        ({"match.threshold": "high"}, "match.threshold: .*not 'high'"),
    ],
)
def test_replay_with_unusable_overrides_raises_e404(tmp_path: Path, sets: dict[str, Any], message: str) -> None:
    record(tmp_path, ["Anna"])
    with pytest.raises(NamepinError, match=f"E404: .*{message}") as caught:
        list(replay(tmp_path, sets=sets))
    assert caught.value.exit_code == Exit.UNUSABLE


def test_replay_of_equal_posts_answers_each_from_its_own_calls(tmp_path: Path) -> None:
    """Two posts of one text, the server down for the first only: each replays as it was."""
    tools, graph = make_tools("knowledge", "tagger"), gem.build()
    tools["knowledge"].fail = lambda attempt: down("knowledge")(attempt) if attempt == 1 else None
    calls, recorded = LiveCalls(tools), []
    with Recorder(tmp_path, graph=graph.name, profile={}) as recorder:
        for name in ("first", "second"):
            post = Post(id=name, text="Anna")
            context = recorder.listen(Context(calls=calls), post, None)
            recorded.append(asyncio.run(extract_post(graph, post, None, context)))
    assert [result.status for result in recorded] == ["degraded", "ok"]
    assert texts_of(list(replay(tmp_path, check=True))) == texts_of(recorded)
