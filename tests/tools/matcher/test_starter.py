from itertools import pairwise

import pytest

from namepin.graphs.policy import MatchPolicy, ReviewPolicy
from namepin.tools.interfaces import Match, Matches, MatchRequest, Query
from namepin.tools.matcher.config import MatcherConfig
from namepin.tools.matcher.starter import IN_PICTURE, StarterMatcher, face_posterior, match_scene
from namepin.tools.matcher.subject import role_of
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


def match_queries(
    queries: list[tuple[str, str]],
    people: list[Person],
    lines: list[Line],
    text: str | None = None,
    category: str | None = None,
) -> Matches:
    asked = tuple(Query(text=name, label=label, category=category or label) for name, label in queries)
    ordered = tuple(sorted(people, key=lambda p: -p.prominence))
    text = " ".join(q.text for q in asked) if text is None else text
    return match_scene(MatchRequest(image=PICTURE, text=text, queries=asked), Scene(ordered, tuple(lines)))


def matched(queries: list[tuple[str, str]], people: list[Person] = [], lines: list[Line] = []) -> list[Match]:  # noqa: B006
    return list(match_queries(queries, people, lines).matches)


def test_starter_matcher_with_one_name_and_one_face_matches_them() -> None:
    (match,) = matched([("Ada Example", "PER")], [person(300)])
    assert match.score > 0.7 and match.kind == "face" and match.region == (300, 50, 400, 150)
    assert not match.ambiguous and match.can_tell
    assert match.evidence == "face at 300,50, not checked to be this person's"


def test_person_without_any_face_is_not_in_the_picture() -> None:
    (match,) = matched([("Ada Example", "PER")])
    assert match.score < 0.5 and match.region is None and match.kind is None and match.can_tell
    assert match.evidence == "no face is found in the picture"


@pytest.mark.parametrize("label", ["LOC", "ORG", "OTHER"])
@pytest.mark.parametrize("people", [[], [person(300)]], ids=["nobody", "a face"])
def test_thing_whose_name_is_not_read_cannot_be_told(label: str, people: list[Person]) -> None:
    found = match_queries([("Space Shuttle", label)], people, [line("UNITED STATES")])
    (match,) = found.matches
    assert not match.can_tell and match.region is None and not match.ambiguous
    assert match.evidence == "name not read; things are not recognised"
    (notice,) = found.notices
    assert (notice.code, notice.tool) == ("W125", "matcher") and "Space Shuttle" in notice.message


def test_animal_among_the_people_is_not_looked_for_by_its_face() -> None:
    (match,) = match_queries([("Chelsea", "PER")], [person(300)], [], category="animal").matches
    assert not match.can_tell and match.region is None


def test_warning_about_many_names_lists_five_of_them() -> None:
    names = [f"Thing {number}" for number in range(8)]
    (notice,) = match_queries([(name, "OTHER") for name in names], [], []).notices
    assert "Thing 4 and 3 more" in notice.message and "Thing 5" not in notice.message


def test_matcher_declares_that_it_sees_faces_and_words() -> None:
    assert StarterMatcher.sees == {"faces", "words"}


@pytest.mark.parametrize(
    ("text", "ambiguous"),
    [
        ("So proud of Ada Example, the first woman to command a ship", False),
        ("Ada Example smiles", False),
        ("Fans of Ada Example in the rain", True),
        ("Great night with the fans of the great Ada Example", True),
        ("Ada Example's new album is out", True),
        ("Ada Example vs the rest of the world", True),
        ("A mural of Ada Example downtown", True),
        ("Waiting for Ada Example", True),
        ("Fans of Ada Example: today Ada Example sings", False),
    ],
)
def test_face_is_ambiguous_where_the_text_is_about_others(text: str, ambiguous: bool) -> None:
    (match,) = match_queries([("Ada Example", "PER")], [person(300)], [], text).matches
    (captioned,) = match_queries(
        [("Ada Example", "PER")], [person(300)], [line("Ada Example", x=290, y=155)], text
    ).matches
    assert match.ambiguous is ambiguous and match.can_tell and match.score >= 0.5
    assert captioned.score > match.score and not captioned.ambiguous
    assert match.evidence and "not checked to be this person's" in match.evidence
    assert captioned.evidence and "not checked" not in captioned.evidence


@pytest.mark.parametrize(
    "text",
    ["Dinner without Ada Example", "Ada Example couldn't make it tonight", "Ada Example is not in this picture"],
)
def test_face_of_somebody_beside_a_missing_person_cannot_be_told(text: str) -> None:
    (match,) = match_queries([("Ada Example", "PER")], [person(300)], [], text).matches
    assert not match.can_tell and match.region is None
    assert match.evidence == "face at 300,50, but the text says somebody is missing"


def test_more_people_than_names_make_a_face_ambiguous() -> None:
    alone, *_ = matched([("Ada Example", "PER")], [person(100, 200)])
    beside, *_ = matched([("Ada Example", "PER")], [person(100, 200), person(600, 60)])
    assert not alone.ambiguous and beside.ambiguous and beside.score < alone.score


@pytest.mark.parametrize("people", [[], [person(300)]], ids=["no face", "a face"])
def test_score_of_a_person_is_not_close_to_the_threshold(people: list[Person]) -> None:
    (match,) = matched([("Ada Example", "PER")], people)
    assert not ReviewPolicy().close(match.score, MatchPolicy().threshold)


@pytest.mark.parametrize(("text", "role"), [("", "subject"), ("Adam", "subject"), ("no Ada, but Ada", "subject")])
def test_role_of_a_name_in_an_odd_text(text: str, role: str) -> None:
    assert role_of("Ada", text) == role


@pytest.mark.parametrize("label", ["LOC", "ORG", "OTHER"])
def test_starter_matcher_with_printed_name_matches_its_words(label: str) -> None:
    (match,) = matched([("Harbour Festival", label)], lines=[line("HARBOUR FESTIVAL 2016")])
    assert match.score > 0.5 and match.kind == "text" and match.region == (0, 500, 150, 520)
    assert match.evidence == "reads 'HARBOUR FESTIVAL'"


def test_starter_matcher_score_falls_with_share_of_name_found() -> None:
    lines = [line("HARBOUR FESTIVAL")]
    names = ["Harbour Festival", "Harbour Festivol", "Harbour Festival Hall", "Harbour Festival of Lights"]
    scores = [matched([(name, "ORG")], lines=lines)[0].score for name in names]
    assert all(a > b for a, b in pairwise(scores))


def test_posterior_of_unseen_and_seen_brackets_prior_by_type() -> None:
    assert {label for label, share in IN_PICTURE.items() if share > 0.5} == {"PER"}
    assert face_posterior(seen=False) < IN_PICTURE["PER"] < face_posterior(seen=True)


@pytest.mark.parametrize("label", ["LOC", "ORG", "OTHER"])
def test_score_of_a_name_read_whole_is_not_close_to_the_threshold(label: str) -> None:
    (match,) = matched([("Rotterdam", label)], lines=[line("ROTTERDAM")])
    assert not ReviewPolicy().close(match.score, MatchPolicy().threshold) and match.score > 0.5


def test_starter_matcher_assigns_two_names_to_two_faces_left_to_right() -> None:
    first, second = matched([("Ada", "PER"), ("Bob", "PER")], [person(500, 110), person(100, 100)])
    assert first.region == (100, 50, 200, 150) and second.region == (500, 50, 610, 160)
    assert first.ambiguous and second.ambiguous
    assert 0.5 <= first.score < matched([("Ada", "PER")], [person(100)])[0].score


def test_starter_matcher_ignores_small_or_blurred_faces() -> None:
    people = [person(400, 180), person(200, 120, sharp=0.2), person(20, 60)]
    first, second = matched([("Ada", "PER"), ("Bob", "PER")], people)
    assert first.region == (400, 50, 580, 230) and first.ambiguous and first.score >= 0.5
    assert second.region is None and not second.can_tell
    assert second.evidence == "3 faces for 2 names: which is whose is open"


def test_starter_matcher_with_several_equal_faces_is_ambiguous() -> None:
    (match,) = matched([("Ada", "PER")], [person(100, 100), person(400, 105)])
    assert match.region == (400, 50, 505, 155) and match.ambiguous and match.score >= 0.5


def test_starter_matcher_in_crowd_matches_nobody() -> None:
    matches = matched([("Ada", "PER")], [person(100.0 * i) for i in range(7)])
    assert matches[0].region is None and not matches[0].can_tell


def test_starter_matcher_with_printed_name_assigns_nearest_face() -> None:
    people = [person(100, 100), person(500, 100)]
    queries = [("Ada Example", "PER"), ("Bob Sample", "PER")]
    # The rule alone would give Ada the left face.
    first, second = matched(queries, people, [line("Ada Example", x=480, y=190)])
    assert first.region == people[1].box and not first.ambiguous and first.score > 0.9
    assert first.evidence and "name below it" in first.evidence
    assert second.region == people[0].box


def test_starter_matcher_with_printed_name_but_no_face_scores_below_half() -> None:
    (match,) = matched([("Ada Example", "PER")], lines=[line("ADA EXAMPLE")])
    assert match.score < 0.5 and match.kind == "text"


def test_starter_matcher_with_repeated_name_matches_same_face() -> None:
    queries = [("Ada Example", "PER"), ("Acme", "ORG"), ("Example", "PER"), ("Ada Example", "PER")]
    first, acme, second, third = matched(queries, [person(100)])
    assert first == second == third and not first.ambiguous and first.region
    assert acme.region is None


def test_starter_matcher_with_two_mentions_on_same_words_is_ambiguous() -> None:
    queries = [("Harbour Festival", "OTHER"), ("Harbour Festival Hall", "LOC"), ("Acme", "ORG")]
    first, second, third = matched(queries, lines=[line("HARBOUR FESTIVAL"), line("ACME", y=100)])
    assert first.ambiguous and second.ambiguous and not third.ambiguous


def test_starter_matcher_regions_are_clipped_to_picture() -> None:
    (match,) = matched([("Acme", "ORG")], lines=[line("ACME", x=-30.0, y=590)])
    assert match.region == (0, 590, 40, 600)


def test_starter_matcher_without_mentions_returns_nothing() -> None:
    assert matched([], [person(100)]) == []


def test_starter_matcher_fingerprint_depends_on_config() -> None:
    default = StarterMatcher(MatcherConfig())
    other = StarterMatcher(MatcherConfig(scene=SceneConfig(people=PeopleConfig(side=480))))
    assert default.fingerprint == StarterMatcher(MatcherConfig()).fingerprint != other.fingerprint
