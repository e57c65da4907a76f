"""The evaluator: invariants for any predictions, agreement with seqeval, and unevaluated tasks."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from namepin.evals.datasets.gold import Dataset
from namepin.evals.scoring.evaluate import TASKS, count_posts, evaluate, total
from namepin.evals.scoring.predictions import Predictions, check
from namepin.evals.scoring.protocols import PROTOCOLS
from namepin.tools.errors import NamepinError
from namepin.tools.labels import FINE51, FINE_TO_COARSE4, FINE_TO_COARSE8
from support.eval_samples import dataset, entity, from_gold, gold, mask_of, predictions
from support.scoring_strategies import BOXES, data_and_predictions, posts_of, regions, tag_rows
from support.waiting import growth


@given(tag_rows, st.lists(regions, min_size=1, max_size=4))
@settings(max_examples=60)
def test_evaluate_of_perfect_predictions_scores_one_in_every_protocol(
    rows: list[list[str]], boxes: list[tuple[tuple[float, ...], ...]]
) -> None:
    data = dataset(*posts_of(rows, boxes))
    found = check([("row", row) for row in from_gold(data)], data)
    entities = sum(len(post.entities) for post in data.posts)
    for protocol in ("canonical", "riveg", "hindex"):
        report = evaluate(data, found, protocol=protocol)
        for score in (report.mner, report.eeg, report.gmner):
            assert score is not None and score.f1 == (1 if entities else 0)
    assert evaluate(data, found, protocol="tiger").mner.f1 == (1 if entities else 0)  # type: ignore[union-attr]


@given(data_and_predictions(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_count_posts_is_independent_of_order(drawn: tuple[Dataset, Predictions], shuffle: random.Random) -> None:
    data, found = drawn
    posts = list(data.posts)
    shuffle.shuffle(posts)
    mixed = {post: tuple(shuffle.sample(ps, len(ps))) for post, ps in found.entities.items()}
    shuffled = Predictions(mixed, {})
    for name in ("mner", "eeg", "gmner"):
        assert total(count_posts(data, found, name)) == total(count_posts(dataset(*posts), shuffled, name))


@given(data_and_predictions())
@settings(max_examples=80)
def test_count_posts_never_exceeds_gold_or_predictions(drawn: tuple[Dataset, Predictions]) -> None:
    data, found = drawn
    for protocol in PROTOCOLS:
        for name in ("span", "mner", "eeg", "gmner"):
            count = total(count_posts(data, found, name, protocol))
            assert count.correct <= count.predicted
            if protocol != "tiger" or name != "eeg":
                assert count.correct <= count.gold
    gmner, mner, eeg = (total(count_posts(data, found, name)).correct for name in ("gmner", "mner", "eeg"))
    assert gmner <= min(mner, eeg)


@given(tag_rows, st.data())
@settings(max_examples=60)
def test_evaluate_with_swapped_gold_swaps_precision_and_recall(rows: list[list[str]], draw: st.DataObject) -> None:
    guesses = [draw.draw(st.lists(st.sampled_from(t), min_size=len(t), max_size=len(t))) for t in rows]
    one, other = (dataset(*posts_of(tags, [()])) for tags in (rows, guesses))
    forth = evaluate(one, check([("", row) for row in from_gold(other)], one)).mner
    back = evaluate(other, check([("", row) for row in from_gold(one)], other)).mner
    assert forth is not None and back is not None
    assert (forth.precision, forth.recall) == (back.recall, back.precision)


@given(tag_rows, st.data())
@settings(max_examples=60)
def test_evaluate_mner_equals_seqeval(rows: list[list[str]], draw: st.DataObject) -> None:
    from seqeval.metrics import f1_score, precision_score, recall_score

    guesses = [draw.draw(st.lists(st.sampled_from(t), min_size=len(t), max_size=len(t))) for t in rows]
    data, guessed = (dataset(*posts_of(tags, [()])) for tags in (rows, guesses))
    score = evaluate(data, check([("", row) for row in from_gold(guessed)], data)).mner
    assert score is not None
    for ours, theirs in ((score.precision, precision_score), (score.recall, recall_score), (score.f1, f1_score)):
        assert ours == pytest.approx(theirs(rows, guesses, zero_division=0))


@given(data_and_predictions(), st.floats(0.01, 1))
@settings(max_examples=40)
def test_count_posts_with_higher_iou_never_increases(drawn: tuple[Dataset, Predictions], iou: float) -> None:
    data, found = drawn
    low, high = (total(count_posts(data, found, "gmner", iou=t)).correct for t in (iou / 2, iou))
    assert high <= low


@given(data_and_predictions())
@settings(max_examples=40)
def test_evaluate_losses_add_up_to_missing_f1(drawn: tuple[Dataset, Predictions]) -> None:
    report = evaluate(*drawn)
    assert report.loss is not None and report.mner is not None
    assert report.loss.span + report.loss.coarse == pytest.approx(1 - report.mner.f1)
    assert report.loss.missed + report.loss.wrong_coarse == report.mner.gold - report.mner.correct


FINE = dataset(
    gold("a", "Ada in Rome on Mars", (0, 1, "person"), (2, 3, "location"), (4, 5, "location"),
         fine={(0, 1): "athlete", (2, 3): "city", (4, 5): "location_other"}),
    name="fmnerg", scheme="fmnerg8", has_fine=True, has_boxes=False,
)  # fmt: skip


def test_evaluate_of_fmnerg_scores_4_8_and_51_types_with_losses() -> None:
    found = predictions(
        FINE,
        a=[
            entity(0, 1, "PER", fine_label="actor"),
            entity(2, 3, "LOC", fine_label="city"),
            entity(4, 5, "LOC", fine_label="cultural_place"),
        ],
    )
    report = evaluate(FINE, found)
    assert report.mner is not None and report.mner.correct == 2
    assert report.fine is not None and report.fine["mner"] is not None and report.fine["mner"].correct == 1
    assert report.coarse4 is not None and report.coarse4["mner"] is not None and report.coarse4["mner"].correct == 3
    assert report.loss is not None
    assert (report.loss.missed, report.loss.wrong_coarse, report.loss.wrong_fine) == (0, 1, 1)
    assert report.loss.span == 0
    assert [report.loss.coarse, report.loss.fine] == pytest.approx([1 / 3, 1 / 3])
    assert report.by_type["building"].predicted == 1
    assert set(report.by_type_of["fine.mner"]) == {"city", "location_other", "cultural_place", "athlete", "actor"}


def test_evaluate_without_fine_labels_skips_8_and_51_types() -> None:
    report = evaluate(FINE, predictions(FINE, a=[entity(0, 1, "PER")]))
    assert report.mner is None and report.fine is not None and report.fine["mner"] is None
    assert report.coarse4 is not None and report.coarse4["mner"] is not None and report.coarse4["mner"].correct == 1
    assert report.loss is None and report.span.correct == 1


def test_evaluate_with_8_type_labels_needs_no_fine_labels() -> None:
    report = evaluate(FINE, predictions(FINE, a=[entity(0, 1, "person"), entity(2, 3, "building")]))
    assert report.mner is not None and (report.mner.correct, report.mner.predicted) == (1, 2)
    assert report.fine is not None and report.fine["mner"] is None
    assert report.coarse4 is not None and report.coarse4["mner"] is not None and report.coarse4["mner"].correct == 2


@pytest.mark.parametrize("fine", FINE51)
def test_evaluate_maps_each_fine_type_to_its_8_and_4_types(fine: str) -> None:
    data = dataset(gold("a", "x", (0, 1, FINE_TO_COARSE8[fine]), fine={(0, 1): fine}), scheme="fmnerg8", has_fine=True)
    report = evaluate(data, predictions(data, a=[entity(0, 1, FINE_TO_COARSE4[fine], fine_label=fine)]))
    assert report.mner is not None and report.mner.f1 == 1


def test_evaluate_tasks_without_gold_are_none() -> None:
    data = dataset(gold("a", "Ada", (0, 1, "PER")), has_boxes=False)
    report = evaluate(data, predictions(data, a=[entity(0, 1, "PER", BOXES[0])]))
    assert (report.eeg, report.gmner, report.ees, report.smner, report.fine, report.groundability) == (None,) * 6


def test_evaluate_masks_match_best_gold_mask_by_iou() -> None:
    far, near = mask_of(10, 0, 20, 10), mask_of(0, 0, 10, 10)
    data = dataset(gold("a", "Ada", (0, 1, "PER"), masks={(0, 1): (far, near)}), name="smner", has_masks=True)
    half = mask_of(0, 0, 5, 10).model_dump()
    found = predictions(data, a=[entity(0, 1, "LOC", groundable=True, mask=half)])
    report = evaluate(data, found)
    assert report.ees is not None and report.ees.f1 == 1
    assert report.smner is not None and report.smner.f1 == 0
    assert evaluate(data, found, iou=0.51).ees.f1 == 0  # type: ignore[union-attr]


def test_evaluate_reports_groundability_confusion_and_region_fit() -> None:
    words = "a b c d"
    data = dataset(gold("p", words, *((i, i + 1, "PER", [BOXES[0]] if i < 2 else ()) for i in range(4))))
    found = predictions(
        data,
        p=[entity(0, 1, "PER", BOXES[1]), entity(1, 2, "LOC"), entity(2, 3, "PER", BOXES[0]), entity(3, 4, "PER")],
    )
    report = evaluate(data, found)
    assert report.groundability is not None and report.regions is not None
    g = report.groundability
    assert (g.both, g.gold_only, g.predicted_only, g.neither, g.accuracy) == (1, 1, 1, 1, 0.5)
    assert (report.regions.entities, report.regions.mean_iou, report.regions.precision_at_iou) == (2, 0.25, 0.5)
    assert report.regions.top_n is None


def test_evaluate_reports_small_entities_and_top_n_proposals() -> None:
    boxes = [(0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 90.0, 90.0)]
    post = gold("p", "a b", *((i, i + 1, "PER", [box]) for i, box in enumerate(boxes)), size=(100, 100))
    data = dataset(post)
    row = {"id": "p", "entities": [entity(0, 1, "PER", boxes[1]), entity(1, 2, "PER", boxes[1])]}
    report = evaluate(data, check([("", row | {"regions": [[50, 50, 60, 60]] * 14 + [list(boxes[1])]})], data))
    assert report.regions is not None and report.regions.entities == 2
    assert (report.regions.small.entities, report.regions.small.precision_at_iou) == (1, 0)
    assert report.regions.top_n == {10: 0, 15: 0.5, 20: 0.5}


def test_predictions_without_regions_count_as_ungroundable() -> None:
    data = dataset(gold("p", "a b", (0, 1, "PER", [BOXES[0]]), (1, 2, "PER")))
    report = evaluate(data, predictions(data, p=[entity(0, 1, "PER", BOXES[0]), entity(1, 2, "PER")]).without_regions())
    assert report.gmner is not None and report.gmner.correct == 1


@pytest.mark.parametrize("arguments", [{"protocol": "mine"}, {"iou": 0.0}, {"iou": 1.1}, {"iou": float("nan")}])
def test_evaluate_with_unknown_protocol_or_iou_raises_e139(arguments: dict[str, object]) -> None:
    with pytest.raises(NamepinError, match="E139"):
        evaluate(FINE, predictions(FINE), **arguments)  # type: ignore[arg-type]


def test_report_json_has_keys_of_contract() -> None:
    found = evaluate(FINE, predictions(FINE)).model_dump()
    keys = "dataset split protocol iou n_posts mner eeg gmner ees smner fine by_type groundability duplicates"
    assert set(keys.split()) <= found.keys()
    assert list(found["mner"]) == ["precision", "recall", "f1", "correct", "predicted", "gold"]
    assert set(TASKS) >= {"mner", "eeg", "gmner", "ees", "smner"}


def test_evaluate_of_many_posts_takes_linear_time() -> None:
    posts = [
        gold(str(i), "Ada met Bob in Rome", (0, 1, "PER", [BOXES[0]]), (2, 3, "PER"), (4, 5, "LOC", [BOXES[2]]))
        for i in range(1600)
    ]
    rows = [("", row) for row in from_gold(dataset(*posts))]

    def score(size: int) -> None:
        data = dataset(*posts[:size])
        report = evaluate(data, check(rows[:size], data))
        assert report.gmner is not None and report.gmner.f1 == 1

    assert growth(score, 100, 1600) < 64, "16 where it is linear, 256 where it is quadratic"
