"""The cassette of the demo posts that ships as a test: the starter profile's real answers, without its models.

Recorded with `namepin extract --posts examples/posts.jsonl --profile starter --record tests/graphs/cassettes/demo`;
record it again when the graph's answers are meant to change.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from namepin.agent.render.view import presence, typing
from namepin.graphs.recording.cassette import Cassette
from namepin.graphs.recording.replay import replay
from namepin.tools.types import Extraction
from support.paths import CASSETTES, ROOT

DEMO = CASSETTES / "demo"


def test_demo_cassette_replays_byte_for_byte() -> None:
    lines = (DEMO / "cassette.jsonl").read_text("utf-8").split("\n")[:-1]
    recorded = [row["extraction"] for row in map(json.loads, lines) if row["kind"] == "result"]
    replayed = [extraction.to_json() for extraction in replay(DEMO, check=True)]
    assert replayed == [Extraction.model_validate(row).to_json() for row in recorded]


def test_demo_cassette_holds_every_demo_post() -> None:
    rows = (ROOT / "examples" / "posts.jsonl").read_text("utf-8").splitlines()
    posts = {row["id"]: row["text"] for row in map(json.loads, rows)}
    results = list(replay(DEMO))
    assert {result.id: result.text for result in results} == posts
    assert any(entity.box for result in results for entity in result.entities)


def test_demo_cassette_with_threshold_1_has_no_groundable_entity() -> None:
    results = list(replay(DEMO, sets={"match.threshold": 1.0, "gate.gamma": 0.4}))
    assert {entity.groundable for result in results for entity in result.entities if result.image} <= {False, None}


def test_demo_cassette_contains_no_absolute_path() -> None:
    cassette = Cassette.load(DEMO)
    values = [value for setup in cassette.setups.values() for value in strings(setup.profile)]
    assert not [value for value in values if Path(value).is_absolute()]
    assert not [record for record in cassette.posts.values() if "/" in (record.line.post.image or "")]


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str):
        yield value


TRUTH: dict[str, dict[str, tuple[str, str]]] = {
    "astronaut": {
        "Eileen Collins": ("PER, unsure", "yes"),
        "Space Shuttle": ("OTHER, product other", "cannot tell"),
        "NASA": ("ORG, government agency", "cannot tell"),
    },
    "rocket": {
        "SpaceX": ("ORG, company", "cannot tell"),
        "Falcon 9": ("OTHER, product other", "cannot tell"),
        "Florida": ("LOC, state", "cannot tell"),
    },
    "cat": {"London": ("LOC, city", "cannot tell"), "Taylor Swift": ("PER, musician", "no")},
    "flyer": {
        "Harbour Jazz Festival": ("OTHER, festival", "yes"),
        "Rotterdam": ("LOC, city", "yes"),
        "Norah Jones": ("PER, musician", "no"),
    },
}
"""Statements that a person has looked at, and found right or openly unknown. The demo may say "unsure" for a fine type,
and "cannot tell" for a place, but nothing else."""


def test_demo_says_nothing_wrong() -> None:
    for result in replay(DEMO):
        truth = TRUTH[result.id]
        assert [entity.text for entity in result.entities] == list(truth)
        for entity in result.entities:
            typed, place = truth[entity.text]
            assert typing(entity) in (typed, f"{entity.label}, unsure") and entity.label == typed.split(",")[0]
            assert presence(entity) in (place, "cannot tell"), entity.text


def test_demo_shows_every_kind_of_statement() -> None:
    entities = [entity for result in replay(DEMO) for entity in result.entities]
    found = [entity.evidence or "" for entity in entities if entity.groundable]
    assert any("face at" in evidence and "not checked" in evidence for evidence in found), "a found face"
    assert any("reads" in evidence for evidence in found), "found words"
    assert {presence(entity) for entity in entities} == {"yes", "no", "cannot tell"}
    assert any(entity.type_uncertain for entity in entities) and not all(entity.type_uncertain for entity in entities)
    assert {notice.code for result in replay(DEMO) for notice in result.warnings} == {"W125"}
    assert all(result.status == "ok" for result in replay(DEMO))
