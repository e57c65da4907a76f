"""Answers as sentences, which state what is unknown."""

import pytest

from namepin.agent.chat.answers import _facts_of, _row
from namepin.agent.chat.phrasing import explanation, line, phrase_question
from namepin.agent.config.settings import load_settings
from namepin.agent.render.picture import annotate
from namepin.graphs.review_nodes import Measure, Question
from namepin.tools.types import Entity
from support.agent_samples import TEXT, entity, post_view

SHUTTLE = {"label": "LOC", "fine_label": "park", "groundable": None, "evidence": "its name is not read"}


def hidden() -> Entity:
    return entity(TEXT, "Grand Place", **SHUTTLE)


def unsure() -> Entity:
    return entity(TEXT, "Ada Example", type_uncertain=True, type_confidence=0.31)


def test_line_of_a_name_that_cannot_be_told_says_so_with_the_reason() -> None:
    assert line(hidden()).endswith("; cannot tell whether it is in the picture: its name is not read")


def test_line_of_an_uncertain_type_gives_the_coarse_type() -> None:
    assert line(unsure()).startswith("Ada Example: Person, unsure (1.00); ")


def test_explanation_of_an_uncertain_type_gives_the_calibrated_probability_and_the_threshold() -> None:
    said = explanation(unsure(), load_settings("starter", environment={}))
    assert "Person, unsure." in said and "athlete 0.80" in said, "the scores stay"
    assert "The calibrated probability that the name and 'athlete' are right is 0.31." in said
    assert "That is below 0.5, so only the coarse type is shown." in said


def test_explanation_of_a_name_that_cannot_be_told_does_not_say_that_it_is_absent() -> None:
    said = explanation(hidden(), load_settings("starter", environment={}))
    assert "cannot tell whether it is in the picture" in said and "not in the picture" not in said


def test_facts_for_models_and_rows_for_spreadsheets_tell_unknown_from_absent() -> None:
    assert (_facts_of(hidden())["in_picture"], _facts_of(hidden())["groundable"]) == ("cannot tell", None)
    assert _facts_of(unsure())["type_uncertain"] is True
    assert _row(hidden())["in_picture"] == "cannot tell" and _row(unsure())["type_uncertain"] == "yes"
    assert _row(entity(TEXT, "Ada Example", provenance=("tagger",)))["in_picture"] == ""


@pytest.mark.parametrize(
    ("measure", "numbers"),
    [
        ("probability", "probability 0.480, threshold 0.5"),
        ("entropy", "entropy 0.480 nats, gamma 0.5"),
        (None, "entropy 0.480 nats, gamma 0.5"),
    ],
)
def test_question_about_a_type_names_the_number_that_is_close(measure: Measure | None, numbers: str) -> None:
    asked = Question(
        key="label:0", kind="label", mention="Ada", start=0, end=3, choices=("a", "b"), value=0.48, threshold=0.5,
        measure=measure,
    )  # fmt: skip
    assert phrase_question(asked) == ("What is 'Ada'?", numbers)


def test_picture_draws_another_legend_for_cannot_tell_than_for_not_looked_for() -> None:
    item, other = (
        post_view(TEXT, hidden()),
        post_view(TEXT, entity(TEXT, "Grand Place", **SHUTTLE, provenance=("tagger",))),
    )
    assert item.picture
    assert annotate(item.picture, item.extraction).tobytes() != annotate(item.picture, other.extraction).tobytes()
