"""The cassette of the modern profile: the papers mixed, one chat model in seven roles, SAM 2 of tiny size.

Recorded with `python tests/support/tiny_modern.py`; record it again when the graph's answers are meant to change.
"""

import pytest

from namepin.agent.config.settings import load_settings
from namepin.graphs.recording.cassette import Cassette
from namepin.graphs.recording.replay import replay
from namepin.tools.types import Extraction
from support.paths import CASSETTES

MODERN = CASSETTES / "modern"


@pytest.fixture(scope="module")
def replayed() -> dict[str, Extraction]:
    return {extraction.id: extraction for extraction in replay(MODERN, check=True)}


def path(post: str) -> list[str]:
    return [step for taken in Cassette.load(MODERN).posts[post].steps for step in taken.ran]


def test_modern_cassette_reranked_mention_is_expanded_grounded_and_segmented(replayed: dict[str, Extraction]) -> None:
    walked = ["caption", "knowledge", "tag", "gate", "rerank[1]", "describe", "expand[0]", "expand[1]"]
    assert path("collins") == [*walked, "entail", "ground", "segment", "assemble"]
    sure, hard = replayed["collins"].entities
    assert (sure.reranked, hard.reranked) == (False, True)
    assert hard.match_score == 1 and hard.box and hard.mask and hard.mask_stability is not None
    assert hard.provenance[-4:] == ("expansion", "entailment", "grounder", "segmenter")


def test_modern_cassette_ungroundable_mention_is_not_grounded(replayed: dict[str, Extraction]) -> None:
    assert path("falcon")[-2:] == ["entail", "assemble"]
    (falcon,) = replayed["falcon"].entities
    assert (falcon.groundable, falcon.box, falcon.mask) == (False, None, None) and falcon.reranked


def test_modern_cassette_post_without_picture_skips_visual_steps(replayed: dict[str, Extraction]) -> None:
    assert path("potter") == ["knowledge", "tag", "gate", "assemble"]
    assert {entity.groundable for entity in replayed["potter"].entities} == {None}


def test_modern_cassette_backends_equal_shipped_profile() -> None:
    shipped = load_settings("modern", environment={})
    (setup,) = Cassette.load(MODERN).setups.values()
    recorded = load_settings(base=setup.profile)
    assert {r: t.backend for r, t in shipped.tools.items()} == {r: t.backend for r, t in recorded.tools.items()}
    assert shipped.graph == recorded.graph == "riveg"
