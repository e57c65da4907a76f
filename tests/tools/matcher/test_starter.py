from itertools import pairwise

import pytest

from namepin.tools.interfaces import Match, MatchRequest, Query
from namepin.tools.matcher.config import MatcherConfig
from namepin.tools.matcher.starter import IN_PICTURE, StarterMatcher, match_scene, posterior
from namepin.tools.types import ImageRef
from namepin.tools.vision.config import PeopleConfig, SceneConfig
from namepin.tools.vision.faces import Person
from namepin.tools.vision.ocr import Line, Word
from namepin.tools.vision.scene import Scene

PICTURE = ImageRef(sha256="0" * 64, width=800, height=600)


def person(x: float, size: float = 100.0, *, sharp: float = 1.0, confidence: float = 0.98) -> Person:
    return Person((x, 50.0, x + size, 50.0 + size), confidence, sharp)


def line(text: str, x: float = 0.0, y: float = 500.0) -> Line:
    words = []
    for i, word in enumerate(text.split()):
        left = x + 80.0 * i
        words.append(Word(word, ((left, y), (left + 70, y), (left + 70, y + 20), (left, y + 20))))
    return Line(tuple(words), ((x, y), (left + 70, y), (left + 70, y + 20), (x, y + 20)), 0.99)


def matched(queries: list[tuple[str, str]], people: list[Person] = [], lines: list[Line] = []) -> list[Match]:  # noqa: B006
    asked = tuple(Query(text=text, label=label, category=label) for text, label in queries)
    ordered = tuple(sorted(people, key=lambda p: -p.prominence))
    request = MatchRequest(image=PICTURE, text=" ".join(q.text for q in asked), queries=asked)
    return list(match_scene(request, Scene(ordered, tuple(lines))).matches)


def test_one_name_one_face() -> None:
    (match,) = matched([("Ada Example", "PER")], [person(300)])
    assert match.score > 0.7 and match.kind == "face" and match.region == (300, 50, 400, 150)
    assert not match.ambiguous and match.evidence == "face at 300,50"


@pytest.mark.parametrize("label", ["PER", "LOC", "ORG", "OTHER"])
def test_nothing_seen_is_not_in_the_picture(label: str) -> None:
    (match,) = matched([("Ada Example", label)])
    assert match.score < 0.5 and match.region is None and match.kind is None and match.evidence


@pytest.mark.parametrize("label", ["LOC", "ORG", "OTHER"])
def test_a_face_is_nothing_but_a_person(label: str) -> None:
    (match,) = matched([("Ada Example", label)], [person(300)])
    assert match.score < 0.5 and match.region is None


@pytest.mark.parametrize("label", ["LOC", "ORG", "OTHER"])
def test_a_name_that_is_read(label: str) -> None:
    (match,) = matched([("Harbour Festival", label)], lines=[line("HARBOUR FESTIVAL 2016")])
    assert match.score > 0.5 and match.kind == "text" and match.region == (0, 500, 150, 520)
    assert match.evidence == "reads 'HARBOUR FESTIVAL'"


def test_the_score_falls_with_the_part_that_is_read() -> None:
    lines = [line("HARBOUR FESTIVAL")]
    names = ["Harbour Festival", "Harbour Festivol", "Harbour Festival Hall", "Harbour Festival of Lights"]
    scores = [matched([(name, "ORG")], lines=lines)[0].score for name in names]
    assert all(a > b for a, b in pairwise(scores))


def test_most_types_are_not_in_the_picture_and_most_people_are() -> None:
    for label, share in IN_PICTURE.items():
        assert posterior(label, seen=False) < share < posterior(label, seen=True)
        assert (share > 0.5) == (label == "PER")


def test_two_names_two_people_left_to_right() -> None:
    first, second = matched([("Ada", "PER"), ("Bob", "PER")], [person(500, 110), person(100, 100)])
    assert first.region == (100, 50, 200, 150) and second.region == (500, 50, 610, 160)
    assert first.ambiguous and second.ambiguous
    assert 0.5 <= first.score < matched([("Ada", "PER")], [person(100)])[0].score


def test_a_blurred_or_small_person_in_the_background_takes_no_name() -> None:
    people = [person(400, 180), person(200, 120, sharp=0.2), person(20, 60)]
    first, second = matched([("Ada", "PER"), ("Bob", "PER")], people)
    assert first.region == (400, 50, 580, 230) and first.ambiguous and first.score >= 0.5
    assert second.region is None and second.ambiguous and second.score < 0.5
    assert second.evidence == "3 faces for 2 names: none left for this one"


def test_one_name_several_equal_people_is_a_guess() -> None:
    (match,) = matched([("Ada", "PER")], [person(100, 100), person(400, 105)])
    assert match.region == (400, 50, 505, 155) and match.ambiguous and match.score >= 0.5


def test_in_a_crowd_nobody_is_named() -> None:
    matches = matched([("Ada", "PER")], [person(100.0 * i) for i in range(7)])
    assert matches[0].region is None and matches[0].ambiguous and matches[0].score < 0.5


def test_a_doubtful_face_is_not_enough() -> None:
    (match,) = matched([("Ada", "PER")], [person(100, confidence=0.5)])
    assert match.score < 0.5


def test_a_printed_name_decides_who_is_who() -> None:
    people = [person(100, 100), person(500, 100)]
    queries = [("Ada Example", "PER"), ("Bob Sample", "PER")]
    # The rule alone would give Ada the left face.
    first, second = matched(queries, people, [line("Ada Example", x=480, y=190)])
    assert first.region == people[1].box and not first.ambiguous and first.score > 0.9
    assert first.evidence and "name below it" in first.evidence
    assert second.region == people[0].box


def test_a_printed_name_without_a_face() -> None:
    (match,) = matched([("Ada Example", "PER")], lines=[line("ADA EXAMPLE")])
    assert match.score < 0.5 and match.kind == "text"


def test_one_person_named_twice() -> None:
    queries = [("Ada Example", "PER"), ("Acme", "ORG"), ("Example", "PER"), ("Ada Example", "PER")]
    first, acme, second, third = matched(queries, [person(100)])
    assert first == second == third and not first.ambiguous and first.region
    assert acme.region is None


def test_two_mentions_on_the_same_words_are_ambiguous() -> None:
    queries = [("Harbour Festival", "OTHER"), ("Harbour Festival Hall", "LOC"), ("Acme", "ORG")]
    first, second, third = matched(queries, lines=[line("HARBOUR FESTIVAL"), line("ACME", y=100)])
    assert first.ambiguous and second.ambiguous and not third.ambiguous


def test_regions_stay_inside_the_picture() -> None:
    (match,) = matched([("Acme", "ORG")], lines=[line("ACME", x=-30.0, y=590)])
    assert match.region == (0, 590, 40, 600)


def test_no_mentions() -> None:
    assert matched([], [person(100)]) == []


def test_fingerprint_follows_the_configuration() -> None:
    default = StarterMatcher(MatcherConfig())
    other = StarterMatcher(MatcherConfig(scene=SceneConfig(people=PeopleConfig(side=640))))
    assert default.fingerprint == StarterMatcher(MatcherConfig()).fingerprint != other.fingerprint
