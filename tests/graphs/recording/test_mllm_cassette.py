"""The cassette of the mllm profile: one chat model, and a SAM 2 of tiny size.

Recorded with `python tests/support/tiny_mllm.py`; record it again when the graph's answers are meant to change.
"""

import pytest

from namepin.agent.config.settings import load_settings
from namepin.graphs.recording.cassette import Cassette
from namepin.graphs.recording.replay import replay
from namepin.tools.types import Extraction
from support.paths import CASSETTES

MLLM = CASSETTES / "mllm"


@pytest.fixture(scope="module")
def replayed() -> dict[str, Extraction]:
    return {extraction.id: extraction for extraction in replay(MLLM, check=True)}


def path(post: str) -> list[str]:
    return [step for taken in Cassette.load(MLLM).posts[post].steps for step in taken.ran]


def test_mllm_cassette_boxed_name_is_segmented_and_changed_case_is_aligned(replayed: dict[str, Extraction]) -> None:
    assert path("collins") == ["extract", "segment", "assemble"]
    collins, columbia, nasa = replayed["collins"].entities
    assert collins.box and collins.mask and (columbia.text, columbia.groundable) == ("Columbia", False)
    assert nasa.provenance == ("extractor",)


def test_mllm_cassette_post_without_picture_has_no_places(replayed: dict[str, Extraction]) -> None:
    assert path("potter") == ["extract", "assemble"]
    assert {entity.groundable for entity in replayed["potter"].entities} == {None}


def test_mllm_cassette_repaired_partial_and_refused_answers_have_their_codes(replayed: dict[str, Extraction]) -> None:
    codes = {post: [notice.code for notice in found.warnings] for post, found in replayed.items()}
    assert codes["falcon"] == ["W124"] and len(replayed["falcon"].entities) == 3
    assert codes["warriors"] == ["W160", "W161", "W162", "W163", "W124"]
    assert [entity.text for entity in replayed["warriors"].entities] == ["Golden State Warriors", "Cleveland Cavaliers"]
    assert codes["refused"] == ["W103"] and not replayed["refused"].entities
    assert {post for post, found in replayed.items() if found.status == "degraded"} == {"warriors", "refused"}


def test_mllm_cassette_backends_equal_shipped_profile() -> None:
    shipped = load_settings("mllm", environment={})
    (setup,) = Cassette.load(MLLM).setups.values()
    recorded = load_settings(base=setup.profile)
    assert {r: t.backend for r, t in shipped.tools.items()} == {r: t.backend for r, t in recorded.tools.items()}
    assert shipped.graph == recorded.graph == "mllm"
