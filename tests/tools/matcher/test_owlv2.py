"""The matcher with a detector: what each kind of name gets from faces, words and things."""

from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from namepin.tools.interfaces import MatchRequest, Query
from namepin.tools.matcher.config import Owlv2MatcherConfig
from namepin.tools.matcher.owlv2 import Owlv2Matcher
from namepin.tools.media import Media
from namepin.tools.types import ImageRef

IMAGE = ImageRef(sha256="a" * 64, width=200, height=100)
MEDIA = Media(images={"a" * 64: Image.new("RGB", (200, 100), "white")})
BOX = (-10.0, 20.0, 90.0, 80.0)


class Detector:
    """Finds what it was told."""

    identity = "detector"

    def __init__(self, **scores: float) -> None:
        self.scores = scores
        self.asked: list[tuple[str, ...]] = []

    def best(self, sha256: str, image: Image.Image, texts: Sequence[str]) -> list[tuple[float, Any]]:
        assert sha256 == IMAGE.sha256 and image.size == (200, 100)
        self.asked.append(tuple(texts))
        return [(self.scores.get(text.replace(" ", "_"), 0.01), BOX) for text in texts]


def matched(detector: Detector, *queries: tuple[str, str, str], **settings: Any) -> Any:
    tool = Owlv2Matcher(Owlv2MatcherConfig.model_validate(settings), detector)  # type: ignore[arg-type]
    asked = tuple(Query(text=text, label=label, category=category) for text, label, category in queries)
    (found,) = tool.run([MatchRequest(image=IMAGE, text="a post", queries=asked)], MEDIA)
    return found


def test_owlv2_matcher_finds_thing_with_box_in_picture() -> None:
    found = matched(Detector(Falcon_9=0.2, Rex=0.6), ("Falcon 9", "OTHER", "product_other"), ("Rex", "OTHER", "animal"))
    falcon, rex = found.matches
    assert falcon.score == 0.5 and falcon.region == (0, 20, 90, 80) and falcon.kind == "object" and falcon.can_tell
    assert rex.score > 0.8 and "0.60" in rex.evidence and found.notices == ()


def test_owlv2_matcher_says_absent_of_things_below_measured_score_alone() -> None:
    detector = Detector(Atlas=0.1)
    found = matched(
        detector,
        ("Atlas", "OTHER", "product_other"),
        ("Falcon 9", "OTHER", "product_other"),
        ("Nike", "ORG", "company"),
        ("London", "LOC", "city"),
        ("Glastonbury", "OTHER", "festival"),
        ("Eiffel Tower", "LOC", "building_other"),
        absent_below=0.05,
    )
    atlas, falcon, nike, london, festival, tower = found.matches
    assert not atlas.can_tell and "0.10" in atlas.evidence
    assert falcon.can_tell and falcon.score < 0.5 and falcon.region is None
    assert tower.can_tell and tower.score < 0.5
    assert not nike.can_tell and "found nothing that shows it" in nike.evidence
    assert not london.can_tell and not festival.can_tell
    assert detector.asked == [("Atlas", "Falcon 9", "Nike", "Eiffel Tower")]
    (notice,) = found.notices
    assert notice.code == "W125" and "Atlas, Nike, London, Glastonbury. Only faces, printed" in notice.message


def test_owlv2_matcher_with_defaults_never_says_absent() -> None:
    found = matched(Detector(), ("Falcon 9", "OTHER", "product_other"), ("Eiffel Tower", "LOC", "building_other"))
    assert not any(match.can_tell for match in found.matches)


def test_owlv2_matcher_asks_nobody_about_people_and_equal_names_once() -> None:
    detector = Detector(Nike=0.9)
    found = matched(detector, ("Ada", "PER", "artist"), ("Nike", "ORG", "company"), ("Nike", "ORG", "company"))
    assert detector.asked == [("Nike",)]
    assert found.matches[1] == found.matches[2] and found.matches[0].region is None
    silent = Detector()
    matched(silent, ("Ada", "PER", "artist"))
    assert silent.asked == []


def test_owlv2_matcher_with_four_types_asks_about_other_and_org() -> None:
    detector = Detector()
    found = matched(detector, ("Falcon 9", "OTHER", "OTHER"), ("Nike", "ORG", "ORG"), ("Oslo", "LOC", "LOC"))
    assert detector.asked == [("Falcon 9", "Nike")] and not any(match.can_tell for match in found.matches)


@pytest.mark.parametrize(("score", "expected"), [(0.0, 0.0), (0.2, 0.5), (1.0, 1.0)])
def test_owlv2_matcher_probability_is_half_at_threshold(score: float, expected: float) -> None:
    tool = Owlv2Matcher(Owlv2MatcherConfig(), Detector())  # type: ignore[arg-type]
    assert tool.probability(score) == pytest.approx(expected)


def test_owlv2_matcher_fingerprint_covers_threshold_not_device() -> None:
    def of(**settings: Any) -> str:
        return Owlv2Matcher(Owlv2MatcherConfig.model_validate(settings), Detector()).fingerprint  # type: ignore[arg-type]

    assert of() == of(owlv2={"device": "cuda"}) != of(threshold=0.3)
