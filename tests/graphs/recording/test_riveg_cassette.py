"""The cassette of the RiVEG profile: real answers of tiny models in the published formats, groundable and not.

Recorded with `python tests/support/tiny_riveg.py`; record it again when the graph's answers are meant to change.
"""

import json
from typing import Any

import pytest

from namepin.graphs.recording.cassette import Cassette
from namepin.graphs.recording.replay import replay
from namepin.tools.types import Extraction
from support.paths import CASSETTES

RIVEG = CASSETTES / "riveg"


@pytest.fixture(scope="module")
def replayed() -> dict[str, Extraction]:
    return {extraction.id: extraction for extraction in replay(RIVEG, check=True)}


@pytest.fixture(scope="module")
def paths() -> dict[str, list[str]]:
    posts = Cassette.load(RIVEG).posts
    return {name: [step for taken in record.steps for step in taken.ran] for name, record in posts.items()}


def asked(tool: str) -> list[dict[str, Any]]:
    rows = map(json.loads, (RIVEG / "cassette.jsonl").read_text("utf-8").splitlines())
    return [row["request"] for row in rows if row.get("tool") == tool]


def test_riveg_cassette_replays_exactly(replayed: dict[str, Extraction]) -> None:
    lines = (RIVEG / "cassette.jsonl").read_text("utf-8").split("\n")[:-1]
    recorded = [row["extraction"] for row in map(json.loads, lines) if row["kind"] == "result"]
    # Through the model: a result has fields that are newer than the recording.
    expected = [Extraction.model_validate(row).to_json() for row in recorded]
    assert [extraction.to_json() for extraction in replayed.values()] == expected


def test_riveg_cassette_groundable_has_mask(replayed: dict[str, Extraction], paths: dict[str, list[str]]) -> None:
    entity = replayed["collins"].entities[0]
    assert entity.groundable and entity.box and entity.mask and entity.mask_stability is not None
    assert paths["collins"][-5:] == ["expand[1]", "entail", "ground", "segment", "assemble"]


def test_riveg_cassette_ungroundable_has_no_box(replayed: dict[str, Extraction], paths: dict[str, list[str]]) -> None:
    entity = replayed["falcon"].entities[0]
    assert entity.groundable is False and (entity.box, entity.mask) == (None, None) and entity.match_score
    assert "entail" in paths["falcon"] and not {"ground", "segment"} & set(paths["falcon"])


def test_riveg_cassette_text_post_skips_vision(replayed: dict[str, Extraction], paths: dict[str, list[str]]) -> None:
    assert {e.groundable for e in replayed["potter"].entities} == {None}
    assert paths["potter"] == ["examples", "knowledge", "tag", "gate", "assemble"]


def test_riveg_cassette_requests_hold_examples_background_and_expression() -> None:
    assert [len(request["examples"]) for request in asked("knowledge")] == [2] * 6
    assert {request["background"] for request in asked("expansion")} == {"A person or thing in the picture"}
    first = asked("entailment")[0]
    assert first["queries"][0]["expression"].endswith(" (PER) – A person or thing in the picture")
    assert first["caption"], "OFA's question has a place for the short caption"


def test_riveg_cassette_with_other_thresholds_changes_decisions() -> None:
    stricter = {e.id: e for e in replay(RIVEG, sets={"match.threshold": 0.99})}
    assert not any(entity.groundable for e in stricter.values() for entity in e.entities)
    lenient = {e.id: e for e in replay(RIVEG, sets={"mask.agreement": 0.0})}
    assert not any(entity.ambiguous for e in lenient.values() for entity in e.entities)
