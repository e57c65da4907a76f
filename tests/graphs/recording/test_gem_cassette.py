"""The cassette of the GEM profile: real answers of tiny models, on the paths that the starter profile never takes.

Recorded with `python tests/support/tiny_gem.py`; record it again when the graph's answers are meant to change.
"""

import json

import pytest

from namepin.graphs.recording.cassette import Cassette
from namepin.graphs.recording.replay import replay
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction
from support.paths import CASSETTES

GEM = CASSETTES / "gem"


@pytest.fixture(scope="module")
def replayed() -> dict[str, Extraction]:
    return {extraction.id: extraction for extraction in replay(GEM, check=True)}


@pytest.fixture(scope="module")
def paths() -> dict[str, list[str]]:
    posts = Cassette.load(GEM).posts
    return {name: [step for taken in record.steps for step in taken.ran] for name, record in posts.items()}


def test_gem_cassette_replays_exactly(replayed: dict[str, Extraction]) -> None:
    lines = (GEM / "cassette.jsonl").read_text("utf-8").split("\n")[:-1]
    recorded = [row["extraction"] for row in map(json.loads, lines) if row["kind"] == "result"]
    # Through the model: a result has fields that are newer than the recording.
    expected = [Extraction.model_validate(row).to_json() for row in recorded]
    assert [extraction.to_json() for extraction in replayed.values()] == expected


def test_gem_cassette_reranks_hard_mentions_only(replayed: dict[str, Extraction], paths: dict[str, list[str]]) -> None:
    assert {any(step.startswith("rerank") for step in path) for path in paths.values()} == {True, False}
    sure, unsure = replayed["collins"].entities
    assert (sure.reranked, unsure.reranked) == (False, True)
    assert "rerank[1]" in paths["collins"] and "rerank[0]" not in paths["collins"]
    assert sure.entropy is not None and unsure.entropy is not None and sure.entropy <= 0.2 < unsure.entropy
    assert "reranker" in unsure.provenance and "reranker" not in sure.provenance


def test_gem_cassette_reranker_request_holds_tagger_scores(replayed: dict[str, Extraction]) -> None:
    rows = map(json.loads, (GEM / "cassette.jsonl").read_text("utf-8").splitlines())
    asked = next(row["request"] for row in rows if row.get("tool") == "reranker")
    scores = replayed["collins"].entities[1].scores
    assert asked["candidates"] == list(scores)[:5]
    assert asked["hint"] == {label: scores[label] for label in asked["candidates"]}
    assert asked["caption"] and asked["image"]["width"] == 64


def test_gem_cassette_ungroundable_has_no_segment(replayed: dict[str, Extraction], paths: dict[str, list[str]]) -> None:
    entities = replayed["park"].entities
    assert entities and {e.groundable for e in entities} == {False} and {e.box for e in entities} == {None}
    assert "match" in paths["park"] and not {"trace", "segment"} & set(paths["park"])


def test_gem_cassette_two_mentions_share_region(replayed: dict[str, Extraction], paths: dict[str, list[str]]) -> None:
    one, two = replayed["collins"].entities
    assert one.box is not None and one.box == two.box
    assert paths["collins"].count("segment") == 1  # both in one call


def test_gem_cassette_text_post_skips_vision(replayed: dict[str, Extraction], paths: dict[str, list[str]]) -> None:
    assert {entity.groundable for entity in replayed["potter"].entities} == {None}
    assert not {"caption", "match", "trace", "segment"} & set(paths["potter"])


def test_gem_cassette_with_threshold_1_has_no_box() -> None:
    found = list(replay(GEM, sets={"match.threshold": 1.0}))
    assert not any(entity.groundable or entity.box for extraction in found for entity in extraction.entities)


def test_gem_cassette_with_gamma_5_lacks_matcher_call_and_raises_e402() -> None:
    with pytest.raises(NamepinError, match="E402.*matcher.*--fill"):
        list(replay(GEM, sets={"gate.gamma": 5.0}))


def test_gem_cassette_contains_no_temporary_path() -> None:
    assert "/tmp" not in (GEM / "cassette.jsonl").read_text("utf-8")
