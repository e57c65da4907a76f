"""What a result does not know: names that a matcher cannot see, and types that are too uncertain to show."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from namepin.graphs import gem
from namepin.graphs.calls import LiveCalls
from namepin.graphs.context import Context
from namepin.graphs.policy import GatePolicy, MatchPolicy, Policy, ReviewPolicy
from namepin.graphs.review_nodes import close_calls
from namepin.graphs.run import extract_post
from namepin.tools.interfaces import Match, Matches, MatchRequest, TagRequest, Tags
from namepin.tools.media import Media
from namepin.tools.types import Entity, Extraction, ImageRef, Notice, Post
from support.scripted_tools import IMAGE, Scripted, ScriptedTagger, make_tools

TEXT = "Anna and Bob met Zed in Oslo"


class FacesOnly(Scripted):
    """Cannot tell of anything but people."""

    name = "matcher"

    def answer(self, request: MatchRequest, media: Media) -> Matches:
        found = [
            Match(score=0.9) if q.label == "PER" else Match(score=0.9, can_tell=False, evidence="no face, no tell")
            for q in request.queries
        ]
        return Matches(matches=tuple(found), notices=(Notice(code="W125", tool="matcher", message="cannot tell"),))


class CalibratedTagger(ScriptedTagger):
    """Gives every mention a confidence."""

    def run(self, requests: Sequence[TagRequest], media: Media) -> list[Tags]:
        tagged: list[Tags] = super().run(requests, media)
        given = {"Anna": 0.9, "Bob": 0.3, "Oslo": 0.47}
        return [
            tags.model_copy(
                update={
                    "mentions": tuple(m.model_copy(update={"confidence": given.get(m.text)}) for m in tags.mentions)
                }
            )
            for tags in tagged
        ]


def run(tools: dict[str, Any], image: ImageRef | None = IMAGE, **policy: Any) -> Extraction:
    context = Context(LiveCalls(tools), policy=Policy(**policy))
    return asyncio.run(extract_post(gem.build(), Post(id="p", text=TEXT), image, context))


def test_mention_that_the_matcher_cannot_see_is_neither_in_the_picture_nor_not() -> None:
    result = run(make_tools("tagger", "tracer", "segmenter", matcher=FacesOnly()))
    anna, _, _, oslo = result.entities
    assert anna.groundable and anna.match_score == 0.9 and not anna.cannot_tell
    assert oslo.groundable is None and oslo.match_score is None and oslo.box is None and oslo.mask is None
    assert oslo.cannot_tell and oslo.evidence == "no face, no tell" and "matcher" in oslo.provenance
    assert [notice.code for notice in result.warnings] == ["W125"] and result.status == "ok"
    assert json.loads(result.to_json())["entities"][3]["groundable"] is None


def test_mention_without_a_picture_was_not_looked_for() -> None:
    oslo = run(make_tools("tagger", matcher=FacesOnly()), image=None).entities[-1]
    assert oslo.groundable is None and not oslo.cannot_tell


def test_threshold_does_not_decide_what_cannot_be_told() -> None:
    policy = MatchPolicy(threshold=0.0)
    assert policy.groundable(0.0) is True and policy.groundable(0.9, can_tell=False) is None
    oslo = run(make_tools("tagger", matcher=FacesOnly()), match=policy).entities[-1]
    assert oslo.groundable is None


def test_type_below_the_threshold_is_uncertain_by_confidence_or_else_by_score() -> None:
    gate = GatePolicy(uncertain=0.5)
    entities = run({"tagger": CalibratedTagger()}, gate=gate).entities
    assert [(e.text, e.type_uncertain, e.type_confidence) for e in entities] == [
        ("Anna", False, 0.9),
        ("Bob", True, 0.3),
        ("Zed", True, None),
        ("Oslo", True, 0.47),
    ], "Zed has no confidence, and its score is 0.4"
    assert entities[1].fine_label == "politician" and entities[1].scores["politician"] == 0.4, "the scores stay"
    assert not any(e.type_uncertain for e in run({"tagger": CalibratedTagger()}).entities), "off by default"


def test_type_of_a_reranker_is_not_uncertain() -> None:
    tools = make_tools("reranker") | {"tagger": CalibratedTagger()}
    bob = run(tools, gate=GatePolicy(uncertain=0.5)).entities[1]
    assert bob.reranked and not bob.type_uncertain and bob.type_confidence is None


def test_result_always_holds_the_newer_fields_and_the_state_only_where_they_say_something() -> None:
    result = run({"tagger": CalibratedTagger()}, gate=GatePolicy(uncertain=0.5))
    rows = json.loads(result.to_json())["entities"]
    assert [row["type_uncertain"] for row in rows] == [False, True, True, True]
    plain = json.loads(run(make_tools("tagger")).to_json())["entities"]
    assert all(row["type_uncertain"] is False and row["type_confidence"] is None for row in plain)
    assert "type_uncertain" not in Match(score=0.5).model_dump_json()


@pytest.mark.parametrize(
    ("newer", "absent", "present"),
    [
        (GatePolicy(), GatePolicy(uncertain=0.0), GatePolicy(uncertain=0.5)),
        (MatchPolicy(), MatchPolicy(unknown="absent"), MatchPolicy(unknown="present")),
        (Match(score=0.5), Match(score=0.5, can_tell=True), Match(score=0.5, can_tell=False)),
    ],
    ids=["gate.uncertain", "match.unknown", "can_tell"],
)
def test_newer_setting_is_written_only_where_it_says_something(newer: Any, absent: Any, present: Any) -> None:
    assert newer.model_dump_json() == absent.model_dump_json() != present.model_dump_json()
    assert type(newer).model_validate_json(present.model_dump_json()) == present


def entity(**fields: Any) -> Entity:
    given = {"label": "PER", "fine_label": "actor", "scores": {"actor": 0.7, "author": 0.3}, "provenance": ("tagger",)}
    return Entity(text="Ada", start=0, end=3, token_span=(0, 1), **(given | fields))


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({"type_confidence": 0.52}, 1),
        ({"type_confidence": 0.9}, 0),
        ({"type_confidence": 0.1}, 0),
        ({"scores": {"actor": 0.48, "author": 0.4}}, 1),
        ({"scores": {"actor": 0.48, "author": 0.4}, "reranked": True}, 0),
        ({"type_confidence": 0.52, "provenance": ("tagger", "review")}, 0),
        ({"near_gamma": True, "type_confidence": 0.9}, 1),
        ({"type_confidence": 0.9, "groundable": True, "match_score": 0.53}, 1),
        ({"type_confidence": 0.9, "groundable": True, "match_score": 0.95}, 0),
        ({"type_confidence": 0.9, "groundable": None, "match_score": None}, 0),
    ],
)
def test_close_calls_are_those_near_a_threshold(fields: dict[str, Any], calls: int) -> None:
    assert close_calls([entity(**fields)], ReviewPolicy(), GatePolicy(uncertain=0.5), 0.5) == calls
