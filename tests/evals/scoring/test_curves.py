"""Calibration, confusion and curves on cases worked out by hand."""

import io
import re

import pytest
from rich.console import Console

from namepin.evals.report.console import show
from namepin.evals.report.full import full_report
from namepin.evals.report.markdown import markdown
from namepin.evals.scoring.attribution import outcomes
from namepin.evals.scoring.curves import TypeConfusion, calibration, confusion, iou_curve, match_curve, mistaken_types
from support.eval_samples import dataset, entity, gold, predictions

BOX, HALF, FAR = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 5.0, 10.0), (50.0, 50.0, 60.0, 60.0)
DATA = dataset(gold("p", "a b c d", *((i, i + 1, "PER", [BOX] if i else ()) for i in range(4))))


def test_calibration_confidence_sums_fine_types_of_coarse_type() -> None:
    sure = {"scores": {"actor": 0.5, "athlete": 0.4, "city": 0.1}, "fine_label": "actor", "entropy": 0.9}
    torn = {"scores": {"city": 0.6, "actor": 0.4}, "fine_label": "city", "entropy": 0.7}
    found = predictions(DATA, p=[entity(0, 1, "PER", **sure), entity(1, 2, "LOC", **torn)])
    result = calibration(DATA, outcomes(DATA, found))
    assert result is not None
    assert [(b.mean, b.accuracy, b.count) for b in result.bins] == [(0.6, 0, 1), (pytest.approx(0.9), 1, 1)]
    assert result.error == pytest.approx((0.6 + 0.1) / 2)
    assert [(b.mean, b.accuracy) for b in result.by_entropy] == [(0.7, 0), (0.9, 1)]


def test_calibration_without_scores_is_none() -> None:
    assert calibration(DATA, outcomes(DATA, predictions(DATA, p=[entity(0, 1, "PER")]))) is None


def test_confusion_counts_right_spans_only() -> None:
    found = predictions(DATA, p=[entity(0, 1, "PER"), entity(1, 2, "LOC"), entity(2, 4, "ORG")])
    assert confusion(DATA, outcomes(DATA, found)) == {"PER": {"PER": 1, "LOC": 1}}


def test_iou_curve_drops_to_zero_above_iou_of_box() -> None:
    found = predictions(DATA, p=[entity(1, 2, "PER", HALF)])
    curve = dict(iou_curve(DATA, found, "gmner"))
    assert curve[0.5] == pytest.approx(2 * 1 / 5) and curve[0.55] == 0


def test_match_curve_lists_precision_and_recall_by_descending_score() -> None:
    found = predictions(
        DATA,
        p=[
            entity(0, 1, "PER", BOX, match_score=0.8),
            entity(1, 2, "PER", BOX, match_score=0.9),
            entity(2, 3, "PER", FAR, match_score=0.7),
            entity(3, 4, "PER", match_score=0.1),
        ],
    )
    assert match_curve(DATA, found) == [(0.9, 1, 1 / 3), (0.8, 1 / 2, 1 / 3), (0.7, 1 / 3, 1 / 3)]


def test_mistaken_fine_types_are_counted_where_the_span_is_right() -> None:
    words = {(i, i + 1): kind for i, kind in enumerate(("actor", "actor", "actor", "city"))}
    spans = [(i, i + 1, "LOC" if kind == "city" else "PER") for (i, _), kind in words.items()]
    data = dataset(gold("p", "a b c d e", *spans, fine=words), has_fine=True, has_boxes=False)
    said = ["athlete", "actor", "athlete", "country", "city"]
    found = predictions(
        data, p=[entity(i, i + 1, "PER" if i < 3 else "LOC", fine_label=kind) for i, kind in enumerate(said)]
    )
    pairs = [
        TypeConfusion(gold="actor", said="athlete", count=2, of=3),
        TypeConfusion(gold="city", said="country", count=1, of=1),
    ]
    assert mistaken_types(outcomes(data, found)) == pairs
    assert full_report(data, found).mistaken == pairs
    console = Console(width=120, record=True, file=io.StringIO())
    show(full_report(data, found), console)
    assert re.search(r"actor\W+athlete\W+2\W+3", console.export_text())
    assert "| actor | athlete | 2 | 3 |" in markdown(found, full_report(data, found), "made up")
