import re

import pytest

from namepin.tools.labels import COARSE4, FINE51, FINE_TO_COARSE4
from namepin.tools.tagger.lexicon import (
    DATA,
    TextWeights,
    _lower_case_patterns,
    _rules,
    _votes_of,
    blend,
    known_names,
    listed_types,
    name_key,
    names_by_type,
    normalise,
    split_joined,
    text_votes,
    word_types,
)


def top(votes):
    return max(votes, key=votes.get) if votes else None


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("The Beatles", "beatles"),
        ("Jay - Z", "jayz"),
        ("jay-z", "jayz"),
        ("THE WHO", "who"),
        ("The", "the"),
        ("St. Louis", "stlouis"),
        ("Beyoncé", "beyoncé"),
        ("日本", "日本"),
        ("!!!", ""),
    ],
)
def test_name_key_ignores_case_blanks_and_marks(name, key):
    assert name_key(name) == key


@pytest.mark.parametrize(
    ("text", "parted"),
    [("GreenBayPackers", "Green Bay Packers"), ("UAB_Baseball", "UAB Baseball"), ("NBA", "NBA"), ("iOS", "i OS")],
)
def test_split_joined_separates_camel_case_words(text, parted):
    assert split_joined(text) == parted


def test_names_file_covers_every_fine_type_without_duplicates():
    assert set(names_by_type()) == set(FINE51)
    for fine, names in names_by_type().items():
        assert len(names) >= 15, fine
        assert len(set(names)) == len(names), fine
        assert all(name_key(name) for name in names), fine


def test_listed_types_belong_to_coarse_type():
    assert listed_types("LOC", "Chelsea") == {"location_other": 1.0}
    assert listed_types("ORG", "chelsea") == {"sports_team": 1.0}
    assert listed_types("PER", "Chelsea") == {}
    assert listed_types("LOC", "ny") == {"state": 1.0}
    for key, fines in known_names().items():
        for coarse in {FINE_TO_COARSE4[fine] for fine in fines}:
            votes = listed_types(coarse, key)
            assert sum(votes.values()) == pytest.approx(1)
            assert set(votes) <= {fine for fine in FINE51 if FINE_TO_COARSE4[fine] == coarse}


@pytest.mark.parametrize(
    ("table", "coarse", "text", "fine"),
    [
        ("hint", "PER", "person/basketball player", "athlete"),
        ("hint", "PER", "former us president", "politician"),
        ("hint", "PER", "fictional character", "character"),
        ("hint", "ORG", "band/music group", "band"),
        ("hint", "ORG", "newspaper", "news_agency"),
        ("hint", "LOC", "location/stadium", "sports_facility"),
        ("hint", "OTHER", "tv show", "film_and_television_works"),
        ("hint", "OTHER", "album", "music"),
        ("hint", "PER", "person", None),
        ("hint", "PER", "person/handle", None),
        ("shape", "ORG", "Riverside High School", "educational_institution"),
        ("shape", "LOC", "Lake Erie", "location_other"),
        ("shape", "OTHER", "Some Town Beer Festival", "festival"),
        ("context", "PER", "new album out now", "musician"),
    ],
)
def test_word_types_of_phrase_return_expected_type(table, coarse, text, fine):
    assert top(word_types(table, coarse, text)) == fine


def test_word_types_match_whole_words_in_any_case():
    assert word_types("shape", "LOC", "PARK") == word_types("shape", "LOC", "park") != {}
    assert word_types("hint", "PER", "actorly") == {}


@pytest.mark.parametrize("coarse", COARSE4)
def test_word_types_vote_for_children_of_coarse_type_only(coarse):
    everything = (DATA / "fine_rules.toml").read_text("utf-8")
    words = " ".join(re.findall(r"[a-z]{3,}", everything))
    for table in ("hint", "shape", "context"):
        votes = word_types(table, coarse, words)
        assert votes and set(votes) <= {fine for fine in FINE51 if FINE_TO_COARSE4[fine] == coarse}


def test_text_votes_sum_sources_by_weight():
    words = "we saw Lake Erie , great weather".split()
    votes = text_votes("LOC", words, (2, 4), TextWeights(listed=3, shape=1, context=0.5))
    assert votes == {"location_other": 4.0, "city": 0.5}
    assert text_votes("LOC", words, (2, 4), TextWeights(0, 0, 0)) == pytest.approx({"location_other": 0, "city": 0})


def test_text_votes_exclude_mention_from_its_context():
    assert text_votes("OTHER", ["Album"], (0, 1), TextWeights(shape=0)) == {"music": 0.0}


def test_blend_returns_distribution_shifted_to_votes():
    scores = {"athlete": 0.6, "musician": 0.4}
    mixed = blend(scores, {"musician": 2.0, "actor": 1.0}, 0.5)
    assert mixed == pytest.approx({"musician": 1.4 / 2.5, "athlete": 0.6 / 2.5, "actor": 0.5 / 2.5})
    assert list(mixed)[0] == "musician"
    assert blend(scores, {}, 1.0) == scores
    assert blend(scores, {"actor": 1.0}, 0.0)["athlete"] == 0.6


def test_normalise_of_empty_votes_is_empty():
    assert normalise({}) == {}
    assert normalise({"city": 0.5, "state": 1.5}) == {"city": 0.25, "state": 0.75}


def test_word_types_do_not_cache_long_contexts():
    _votes_of.cache_clear()
    for number in range(20):
        word_types("context", "PER", f"{number} " + "x" * 400)
        word_types("context", "PER", f"{number} sang")
    assert _votes_of.cache_info().currsize == 20
    assert _votes_of.cache_info().maxsize <= 2**14, "with 300 characters each a few megabytes"


def test_lower_case_patterns_match_what_patterns_match_in_any_case():
    """Patterns hold no capital letters but those of escapes, so lower case on both sides loses nothing."""
    for key, rules in _rules().items():
        for (pattern, _), lower in zip(rules, _lower_case_patterns()[key], strict=True):
            assert not re.search("[A-Z]", re.sub(r"\\.", "", pattern.pattern))
            for text in ("The NBA Finals at Wembley Stadium", "happy birthday to the Mayor of LONDON, a Rapper"):
                assert bool(pattern.search(text)) == bool(lower.search(text.lower()))
