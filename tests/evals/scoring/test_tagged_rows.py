"""Predictions as CoNLL text and as tags, in the spellings that systems use."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from namepin.evals.scoring.evaluate import evaluate
from namepin.evals.scoring.predictions import check, read_predictions
from namepin.tools.errors import NamepinError
from support.eval_samples import dataset, gold

DATA = dataset(
    gold("1", "Ada Example in Oslo", (0, 2, "PER"), (3, 4, "LOC")),
    gold("2", "Oscars tonight", (0, 1, "OTHER")),
    has_boxes=False,
)
TAGS = [["B-PER", "E-PER", "O", "S-LOC"], ["S-MISC", "O"]]


def f1(path: Path) -> float:
    report = evaluate(DATA, read_predictions(path, DATA))
    assert report.mner is not None and not report.problems
    return report.mner.f1


@pytest.mark.parametrize("head", ["IMGID:{}\n", ""])
@pytest.mark.parametrize("row", ["{0}\t{1}\n", "{0} O {1}\n", "{0}\tO\t{1}\r\n"])
def test_read_predictions_of_conll_uses_last_column_as_tag(tmp_path: Path, head: str, row: str) -> None:
    blocks = [
        head.format(post.post.id)
        + "".join(row.format(*pair) for pair in zip(post.post.tokens or (), tags, strict=True))
        for post, tags in zip(DATA.posts, TAGS, strict=True)
    ]
    (tmp_path / "dev.txt").write_bytes("\n".join(blocks).encode())
    assert f1(tmp_path / "dev.txt") == 1


def test_read_predictions_accepts_tags_and_numeric_ids(tmp_path: Path) -> None:
    rows = [{"id": int(post.post.id), "tags": tags} for post, tags in zip(DATA.posts, TAGS, strict=True)]
    (tmp_path / "p.jsonl").write_text("\ufeff" + "\n".join(map(json.dumps, rows)))
    assert f1(tmp_path / "p.jsonl") == 1


@pytest.mark.parametrize("labels", [("PER", "LOC", "OTHER"), ("per", "Loc", "Misc"), ("athlete", "CITY", "Award")])
def test_check_accepts_type_labels_in_any_case(labels: tuple[str, str, str]) -> None:
    spans = [("1", [0, 2]), ("1", [3, 4]), ("2", [0, 1])]
    entities: dict[str, list[Any]] = {"1": [], "2": []}
    for (post_id, span), label in zip(spans, labels, strict=True):
        entities[post_id].append({"label": label, "token_span": span})
    report = evaluate(DATA, check([(i, {"id": i, "entities": found}) for i, found in entities.items()], DATA))
    assert report.mner is not None and report.mner.f1 == 1 and not report.problems


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("p.txt", "Ada\tB-PER\n", "1 posts without IMGID lines, the data set has 2"),
        ("p.txt", "IMGID:1\nAda\tPER\n", "p.txt:2"),
        ("p.txt", "IMGID:1\nAda\n", "p.txt:2"),
        ("p.jsonl", '{"id": "1", "tags": ["PER"]}', "not a tag"),
        ("p.jsonl", '{"id": "1", "tags": ["O"]}', "1 tags for 4 tokens"),
        ("p.jsonl", '{"id": "1", "entities": [{"label": "PER", "start": 0, "end": 3, "entropy": NaN}]}', "NaN"),
        ("p.jsonl", '{"id": "1", "entities": [{"label": "PER", "start": 0, "end": 3, "entropy": 1e999}]}', "finite"),
        ("p.jsonl", '{"id": null, "entities": []}', "p.jsonl:1"),
        ("p.jsonl", '{"id": true, "entities": []}', "p.jsonl:1"),
        ("p.jsonl", '[{"id": "1", "entities": []}]', "p.jsonl:1"),
        ("p.jsonl", "Ada\tB-PER\n", "p.jsonl:1"),
        ("p.json", '{"id": "1", "entities": []}'.encode("utf-16").decode("latin-1"), "UTF-16"),
    ],
)
def test_read_predictions_with_bad_tags_raises_e134_with_line(tmp_path: Path, name: str, text: str, what: str) -> None:
    (tmp_path / name).write_bytes(text.encode("latin-1"))
    with pytest.raises(NamepinError, match="E134") as caught:
        read_predictions(tmp_path / name, DATA)
    assert what in str(caught.value)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
fields = {
    "label": st.sampled_from(["PER", "per", "x"]) | values,
    "start": st.integers(-2, 30) | values,
    "end": st.integers(-2, 30) | values,
    "token_span": st.lists(st.integers(-2, 6), min_size=2, max_size=2) | values,
    "box": st.lists(st.floats(-5, 90), min_size=4, max_size=4) | values,
    "mask": st.fixed_dictionaries({"size": values, "counts": values}) | values,
    "fine_label": values,
    "scores": values,
    "match_score": values,
    "entropy": values,
    "groundable": st.booleans() | values,
}
rows = st.fixed_dictionaries(
    {"id": st.sampled_from(["1", "2", 1, 2]) | values},
    optional={
        "entities": st.lists(st.fixed_dictionaries({}, optional=fields), max_size=3) | values,
        "tags": st.lists(st.sampled_from(["O", "B-PER", "x"]), max_size=4) | values,
        "regions": values,
        "status": values,
        "warnings": values,
        "timings_ms": values,
        "text": values,
        "tokens": values,
    },
)


def test_evaluate_of_any_rows_scores_or_raises_coded_error(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.lists(rows, max_size=3))
    def holds(found: list[dict[str, Any]]) -> None:
        path.write_text("".join(json.dumps(row) + "\n" for row in found))
        try:
            report = evaluate(DATA, read_predictions(path, DATA))
        except NamepinError as error:
            assert error.code in ("E134", "E135")
        else:
            assert 0 <= report.span.f1 <= 1

    holds()
