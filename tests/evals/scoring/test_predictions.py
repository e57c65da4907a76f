"""Bad predictions are coded errors, or counted and listed; none is dropped silently."""

import math
from pathlib import Path
from typing import Any

import pytest

from namepin.evals.scoring.evaluate import evaluate
from namepin.evals.scoring.predictions import check, read_predictions, repeats
from namepin.tools.errors import NamepinError
from support.eval_samples import dataset, entity, gold, mask_of, predictions, write_rows

BOX = (10.0, 10.0, 50.0, 60.0)
DATA = dataset(gold("a", "Ada met Bob", (0, 1, "PER", [BOX]), (2, 3, "PER"), size=(100, 80)), gold("b", "so quiet"))


def row(post_id: str, *entities: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": post_id, "entities": list(entities)} | more


def test_check_with_label_and_span_only_scores_mner() -> None:
    rows = [
        ("1", row("a", {"label": "PER", "start": 0, "end": 3}, {"label": "PER", "token_span": [2, 3]})),
        ("2", row("b")),
    ]
    report = evaluate(DATA, check(rows, DATA))
    assert report.mner is not None and report.mner.f1 == 1
    assert report.gmner is None and "not evaluated" in report.notes[0]


def test_check_with_box_but_no_groundable_field_implies_groundable() -> None:
    found = check([("1", row("a", {"label": "PER", "start": 0, "end": 3, "box": list(BOX)}))], DATA)
    report = evaluate(DATA, found)
    assert report.gmner is not None and report.gmner.correct == 1


def test_evaluate_without_predictions_has_recall_zero() -> None:
    report = evaluate(DATA, predictions(DATA))
    assert report.gmner is not None and (report.gmner.recall, report.gmner.gold) == (0, 2)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("{", "E134"),
        ("[]", "E134"),
        ({"id": "a"}, "E134"),
        ({"entities": []}, "E134"),
        (row("a", {"start": 0, "end": 3}), "E134"),
        (row("a", {"label": "PER"}), "E134"),
        (row("a", {"label": "PER", "start": 0.5, "end": 3}), "E134"),
        (row("a", {"label": "PER", "token_span": [0, True]}), "E134"),
        (row("a", {"label": "PER", "start": 0, "end": 3, "groundable": "yes"}), "E134"),
    ],
)
def test_read_predictions_with_invalid_row_raises_coded_error_with_line(tmp_path: Path, line: Any, code: str) -> None:
    path = write_rows(tmp_path / "p.jsonl", [row("b"), line])
    with pytest.raises(NamepinError, match=rf"{code}.*p\.jsonl:2"):
        read_predictions(path, DATA)


def test_read_predictions_of_missing_file_raises_e130(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E130"):
        read_predictions(tmp_path / "none.jsonl", DATA)


def test_check_with_duplicate_ids_raises_e135() -> None:
    with pytest.raises(NamepinError, match="E135.*twice"):
        check([("1", row("a")), ("2", row("a"))], DATA)


def test_check_without_known_id_raises_e135() -> None:
    with pytest.raises(NamepinError, match="E135.*none of the 1"):
        check([("1", row("x"))], DATA)


def test_evaluate_lists_unknown_and_missing_ids_as_e135() -> None:
    report = evaluate(DATA, check([("1", row("x", entity(0, 1, "PER"))), ("2", row("b"))], DATA))
    assert (report.unknown_ids, report.missing_ids) == (["x"], ["a"])
    assert [p["code"] for p in report.problems] == ["E135", "E135"]
    assert report.mner is not None and (report.mner.gold, report.mner.predicted) == (2, 0)


def test_check_with_deliberately_omitted_ids_reports_no_problem() -> None:
    small = DATA.only({"b"})
    found = check([("1", row("a")), ("2", row("b"))], small, known_ids=["a", "b"])
    assert not found.problems


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"label": "PER", "start": 0, "end": 99}, "E136"),
        ({"label": "PER", "start": -3, "end": -1}, "E136"),
        ({"label": "PER", "start": 3, "end": 3}, "E136"),
        ({"label": "PER", "token_span": [2, 9]}, "E136"),
        ({"label": "PER", "token_span": [2, 1]}, "E136"),
        ({"label": "PERSON", "start": 0, "end": 3}, "E138"),
        ({"label": "PER", "fine_label": "wizard", "start": 0, "end": 3}, "E138"),
    ],
)
def test_check_with_misfit_span_or_type_reports_it_and_counts_error(wrong: dict[str, Any], code: str) -> None:
    found = predictions(DATA, a=[wrong, entity(2, 3, "PER")])
    report = evaluate(DATA, found)
    assert [p["code"] for p in report.problems] == [code]
    assert report.mner is not None
    assert (report.mner.correct, report.mner.predicted) == ((1, 2) if "fine_label" not in wrong else (2, 2))


def test_evaluate_counts_two_spans_outside_text_as_two_errors() -> None:
    outside = {"label": "PER", "start": 90, "end": 99}
    report = evaluate(DATA, predictions(DATA, a=[outside, outside]))
    assert report.mner is not None and report.mner.predicted == 2 and report.duplicates == 0


def test_check_with_offsets_into_other_text_reports_e136() -> None:
    found = check([("1", row("a", entity(0, 1, "PER") | {"start": 0, "end": 3}, text="Ada met  Bob"))], DATA)
    assert found.problems[0].code == "E136" and found.entities["a"][0].span[0] < 0


def test_check_with_cleaned_text_reports_no_problem() -> None:
    data = dataset(gold("a", "Ada \x00 Bob", (0, 1, "PER")))
    found = check([("1", row("a", {"label": "PER", "start": 0, "end": 3}, text="Ada   Bob"))], data)
    assert not found.problems


@pytest.mark.parametrize(
    "box",
    [[50, 10, 10, 60], [10, 10, 10, 60], [math.nan, 10, 50, 60], [0, 0, math.inf, 9], [1, 2, 3], "box", [1, 2, 3, "4"]],
)
def test_check_with_unusable_box_reports_e137_and_matches_nothing(box: Any) -> None:
    report = evaluate(DATA, predictions(DATA, a=[entity(0, 1, "PER", box), entity(2, 3, "PER")]))
    assert [p["code"] for p in report.problems] == ["E137"]
    assert report.gmner is not None and (report.gmner.correct, report.gmner.predicted) == (1, 2)
    assert report.mner is not None and report.mner.f1 == 1


def test_check_with_box_beyond_picture_reports_e137_and_scores_it() -> None:
    report = evaluate(DATA, predictions(DATA, a=[entity(0, 1, "PER", [10, 10, 50, 90])]))
    assert [p["code"] for p in report.problems] == ["E137"]
    assert report.gmner is not None and report.gmner.correct == 1


def test_check_with_mask_of_other_size_reports_e137_and_matches_nothing() -> None:
    mask = mask_of(0, 0, 10, 10)
    data = dataset(gold("a", "Ada", (0, 1, "PER"), masks={(0, 1): (mask,)}), name="smner", has_masks=True)
    right = evaluate(data, predictions(data, a=[entity(0, 1, "PER", groundable=True, mask=mask.model_dump())]))
    assert right.smner is not None and right.smner.f1 == 1
    other = mask_of(0, 0, 10, 10, width=21).model_dump()
    wrong = evaluate(data, predictions(data, a=[entity(0, 1, "PER", groundable=True, mask=other)]))
    assert [p["code"] for p in wrong.problems] == ["E137"]
    assert wrong.smner is not None and (wrong.smner.correct, wrong.smner.predicted) == (0, 1)


def test_repeats_counts_predictions_with_repeated_span() -> None:
    assert repeats(predictions(DATA, a=[entity(0, 1, "PER"), entity(0, 1, "LOC"), entity(2, 3, "PER")])) == 1


def test_evaluate_lists_failed_posts_with_reason() -> None:
    why = [{"code": "W100", "tool": "graph", "message": "E999: no luck"}]
    report = evaluate(DATA, check([("1", row("a", status="failed", warnings=why)), ("2", row("b"))], DATA))
    assert report.failed_ids == ["a"] and "no luck" in report.problems[0]["what"]


def test_cannot_tell_is_read_as_absent_or_as_present_and_counted() -> None:
    ada = {"label": "PER", "start": 0, "end": 3, "groundable": None, "provenance": ["tagger", "matcher"]}
    bob = {"label": "PER", "start": 8, "end": 11, "groundable": None, "provenance": ["tagger", "matcher"]}
    found = check([("1", row("a", ada, bob)), ("2", row("b"))], DATA)
    absent, present = evaluate(DATA, found), evaluate(DATA, found.read_unknown_as(True))
    assert found.cannot_tell_count == 2 and "2 entities of which the matcher cannot tell" in absent.notes[-1]
    assert absent.groundability and present.groundability
    assert (absent.groundability.neither, absent.groundability.gold_only) == (1, 1), "Bob is right, Ada is not"
    assert (present.groundability.both, present.groundability.predicted_only) == (1, 1)
    assert absent.gmner and present.gmner and (absent.gmner.correct, present.gmner.correct) == (1, 0), (
        "no box, no region"
    )
    assert found.read_unknown_as(True).read_unknown_as(False) == found


def test_entity_without_a_picture_is_not_counted_as_cannot_tell() -> None:
    found = check(
        [("1", row("a", {"label": "PER", "start": 0, "end": 3, "groundable": None, "provenance": ["tagger"]}))], DATA
    )
    assert found.cannot_tell_count == 0
