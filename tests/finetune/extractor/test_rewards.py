"""Rewards of single answers: the evaluator's counts of a post, the two shortcuts, and the answer's form."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from namepin.finetune.extractor.rewards import REWARDS, Judge, as_trl_reward, is_exact
from namepin.finetune.recipes.extractor import GrpoRecipe
from namepin.tools.extractor.answer import GoldMention, write_answer
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.labels import COARSE4
from support.eval_samples import dataset, gold

FRAME = BoxFrame("pixels", (100, 100), (100, 100))
BOX = (10.0, 10.0, 50.0, 50.0)
POST = gold("1", "Ada Bell sees Rome and Oslo", (0, 2, "PER", [BOX]), (3, 4, "LOC"), (5, 6, "LOC"))
EMPTY = gold("2", "nothing at all")
ALL = ("json", "span", "type", "groundability", "iou", "visual", "textual")


def items(*rows: tuple[str, str, Any]) -> str:
    return json.dumps([{"text": text, "type": kind, "box": box} for text, kind, box in rows])


def rewards(answer: str, post: str = "1", frame: BoxFrame | None = FRAME) -> dict[str, float | None]:
    verdict = Judge(dataset(POST, EMPTY), "gmner4").verdict(post, answer, frame)
    return dict(zip(ALL, (reward(verdict) for reward in REWARDS), strict=True))


ADA, ROME, OSLO = ("Ada Bell", "PER", list(BOX)), ("Rome", "LOC", None), ("Oslo", "LOC", None)


def test_gold_answer_gets_every_reward_and_no_penalty() -> None:
    mentions = [GoldMention("Ada Bell", "PER", BOX), GoldMention("Rome", "LOC"), GoldMention("Oslo", "LOC")]
    found = rewards(write_answer(mentions, FRAME))
    assert found == {**dict.fromkeys(ALL, 1.0), "visual": 0.0, "textual": 0.0}


@pytest.mark.parametrize(
    ("answer", "changed"),
    [
        (items(ADA, ROME), {"span": 0.8, "type": 0.8, "groundability": 0.8}),
        (items(ADA, ROME, OSLO, ("Paris", "LOC", None)), {"span": 6 / 7, "type": 6 / 7, "groundability": 6 / 7}),
        (items(ADA, ("Rome", "ORG", None), OSLO), {"type": 2 / 3}),
        (items(("Ada Bell", "PER", [10, 10, 50, 30]), ROME, OSLO), {"iou": 0.5}),
        (items(("Ada Bell", "PER", None), ROME, OSLO), {"groundability": 2 / 3, "iou": 0.0, "textual": -1.0}),
        (items(ADA, ("Rome", "LOC", [0, 0, 9, 9]), OSLO), {"groundability": 2 / 3, "visual": -0.5}),
        (items(ROME, OSLO), {"span": 0.8, "type": 0.8, "groundability": 0.8, "iou": 0.0}),
        (f"Here you are: {items(ADA, ROME, OSLO)}", {"json": 0.0}),
        (items(ADA, ("Rome", "city", None), OSLO), {"json": 0.0}),
    ],
)
def test_each_fault_changes_only_its_own_rewards(answer: str, changed: dict[str, float]) -> None:
    whole = {**dict.fromkeys(ALL, 1.0), "visual": 0.0, "textual": 0.0}
    assert rewards(answer) == pytest.approx(whole | changed)


@pytest.mark.parametrize("answer", ["", "I cannot help with that.", "[1, 2", '{"names": []}'])
def test_answer_without_list_gets_nothing(answer: str) -> None:
    assert all(value == 0 for value in rewards(answer).values())
    assert all(not value for value in rewards(answer, "2").values())


def test_empty_list_is_right_where_a_post_names_nothing() -> None:
    found = rewards("[]", "2")
    assert [found[name] for name in ("json", "span", "type", "groundability")] == [1.0] * 4
    assert [found[name] for name in ("iou", "visual", "textual")] == [None] * 3
    assert rewards("[]")["span"] == 0.0


def test_post_without_picture_asks_only_for_names_and_types() -> None:
    found = rewards(items(("Ada Bell", "PER", None), ROME, OSLO), frame=None)
    assert [found[name] for name in ALL] == [1.0, 1.0, 1.0, None, None, None, None]


def test_repeated_name_earns_no_more_than_once() -> None:
    assert rewards(items(ADA, ADA, ADA, ROME, OSLO))["span"] == rewards(items(ADA, ROME, OSLO))["span"]
    shouted = rewards(items(*[("Ada Bell", "PER", [n, n, 50, 50]) for n in range(20)], ROME, OSLO))
    assert shouted["span"] is not None and shouted["span"] < 0.5


@given(st.text(max_size=200) | st.recursive(st.none() | st.floats() | st.text(), lambda x: st.lists(x)).map(str))
def test_any_answer_gets_rewards_in_their_bounds(answer: str) -> None:
    for name, value in rewards(answer).items():
        least, most = (-1, 0) if name in ("visual", "textual") else (0, 1)
        assert value is not None and least <= value <= most


@pytest.mark.parametrize(
    ("answer", "exact"),
    [
        ("[]", True),
        (items(ADA, ROME), True),
        ('{"reasoning": "who?", "entities": []}', True),
        ('{"entities": []}', False),
        (f"```json\n{items(ADA)}\n```", False),
        ('[{"text": "Ada", "type": "PER"}]', False),
        ('[{"text": "Ada", "type": "PER", "box": null, "more": 1}]', False),
        ('[{"text": "Ada", "type": "PER", "box": [1, 2, 3]}]', False),
        ('[{"text": "Ada", "type": "PER", "box": [1, 2, 3, NaN]}]', False),
        ('[{"text": 1, "type": "PER", "box": null}]', False),
        ("[" * 100_000, False),
    ],
)
def test_is_exact_accepts_the_asked_form_only(answer: str, exact: bool) -> None:
    assert is_exact(answer, COARSE4) == exact


def test_rewards_have_their_weights_in_the_recipe_and_trl_form() -> None:
    recipe, judge = GrpoRecipe(root="x"), Judge(dataset(POST, EMPTY), "gmner4")
    functions = [as_trl_reward(reward, judge) for reward in REWARDS]
    assert [function.__name__ for function in functions] == [reward.__name__ for reward in REWARDS]
    assert all(getattr(recipe, function.__name__) > 0 for function in functions)
    said = [[{"role": "assistant", "content": text}] for text in (items(ADA, ROME, OSLO), "no")]
    columns = {"post": ["1", "1"], "frame": [FRAME, FRAME], "prompts": [[], []], "trainer_state": None}
    assert functions[1](completions=said, **columns) == [1.0, 0.0]
