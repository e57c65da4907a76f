"""One cause for every lost entity, and sums that explain the scores."""

import pytest
from hypothesis import given, settings

from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.attribution import attribute, outcomes
from namepin.evals.scoring.evaluate import evaluate
from namepin.evals.scoring.predictions import Predictions
from support.eval_samples import dataset, entity, gold, mask_of, predictions
from support.scoring_strategies import data_and_predictions

BOX, OTHER = (0.0, 0.0, 10.0, 10.0), (50.0, 50.0, 60.0, 60.0)
DATA = dataset(
    gold("p", "a b c d e f", *((i, i + 1, "PER", [BOX] if i > 2 else ()) for i in range(6))),
)


def test_outcomes_name_first_failing_step_of_each_entity() -> None:
    found = predictions(
        DATA,
        p=[
            entity(0, 1, "PER"),
            entity(1, 2, "LOC", BOX),
            entity(2, 3, "PER", BOX),
            entity(3, 4, "PER"),
            entity(4, 5, "PER", OTHER),
        ],
    )
    assert [o.cause for o in outcomes(DATA, found)] == [
        "right",
        "type",
        "groundability",
        "groundability",
        "region",
        "span",
    ]
    result = attribute(DATA, found)
    assert (result.task, result.extra) == ("gmner", 0)
    assert result.causes == {"right": 1, "span": 1, "type": 1, "groundability": 2, "region": 1}


def test_attribute_repairs_give_gain_alone_and_with_later_steps() -> None:
    found = predictions(DATA, p=[entity(0, 1, "LOC"), entity(3, 4, "PER", OTHER), entity(1, 3, "PER")])
    repairs = attribute(DATA, found).repairs
    assert attribute(DATA, found).f1 == 0
    assert repairs["type"].alone == pytest.approx(2 * 1 / (3 + 6))
    assert repairs["region"].alone == pytest.approx(2 * 1 / (3 + 6))
    assert repairs["groundability"].alone == 0
    assert repairs["groundability"].with_later == pytest.approx(2 * 1 / 9)
    assert repairs["type"].with_later == pytest.approx(2 * 2 / 9)
    assert repairs["span"].with_later == 1
    assert repairs["span"].alone == pytest.approx(2 * 4 / 12)


def test_outcomes_judge_prediction_with_most_steps_right() -> None:
    found = predictions(DATA, p=[entity(0, 1, "LOC"), entity(0, 1, "PER")])
    assert outcomes(DATA, found)[0].cause == "right"
    assert attribute(DATA, found).extra == 1


def test_outcomes_with_masks_add_mask_step() -> None:
    mask, other = mask_of(0, 0, 10, 10), mask_of(10, 0, 20, 10)
    post = gold("p", "a b", (0, 1, "PER", [BOX]), (1, 2, "PER", [BOX]), masks={(0, 1): (mask,), (1, 2): (mask,)})
    data = dataset(post, name="smner", has_masks=True)
    found = predictions(
        data,
        p=[entity(0, 1, "PER", BOX, mask=other.model_dump()), entity(1, 2, "PER", OTHER, mask=mask.model_dump())],
    )
    assert [o.cause for o in outcomes(data, found)] == ["mask", "right"]


def test_attribute_without_grounding_uses_text_steps_only() -> None:
    found = predictions(DATA, p=[{"token_span": [0, 1], "label": "PER"}])
    result = attribute(DATA, found)
    assert (result.steps, result.task) == (["span", "type"], "mner")


@given(data_and_predictions())
@settings(max_examples=60)
def test_attribute_causes_and_repairs_add_up_to_score(drawn: tuple[Dataset, Predictions]) -> None:
    data, found = drawn
    result, report = attribute(data, found), evaluate(data, found)
    score = {"gmner": report.gmner, "mner": report.mner}[result.task]
    assert score is not None and result.f1 == pytest.approx(score.f1)
    assert sum(result.causes.values()) == score.gold and result.causes["right"] == score.correct
    if score.gold:
        cumulative = [result.f1, *(result.repairs[step].with_later for step in reversed(result.steps))]
        assert cumulative == sorted(cumulative) and cumulative[-1] == 1
        assert all(repair.alone >= result.f1 for repair in result.repairs.values())
