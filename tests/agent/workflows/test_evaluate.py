"""An evaluation as a function, without a command line."""

import json
from pathlib import Path

import pytest

from namepin.agent.workflows.evaluate import EvalPosts, evaluate, evaluate_runs, read_posts, write_reports
from support.eval_samples import gmner_folder, write_rows

ANGELINA = {"label": "PER", "start": 0, "end": 14, "box": [10, 10, 50, 60]}
ROME = {"label": "LOC", "token_span": [3, 4]}


@pytest.fixture
def posts(tmp_path: Path) -> EvalPosts:
    return read_posts("gmner", gmner_folder(tmp_path), "dev")


@pytest.fixture
def right(tmp_path: Path) -> Path:
    return write_rows(
        tmp_path / "right.jsonl", [{"id": "1", "entities": [ANGELINA, ROME]}, {"id": "2", "entities": []}]
    )


@pytest.fixture
def half(tmp_path: Path) -> Path:
    return write_rows(tmp_path / "half.jsonl", [{"id": "1", "entities": [ROME]}, {"id": "2", "entities": []}])


def test_evaluate_against_other_predictions_reports_comparison(posts: EvalPosts, right: Path, half: Path) -> None:
    scored = evaluate(posts, posts.predictions(right), "ours", against=half)
    assert scored.report.gmner and scored.report.gmner.f1 == 1 and scored.about == "ours"
    assert scored.report.comparison


def test_evaluate_ungrounded_counts_no_box(posts: EvalPosts, right: Path) -> None:
    scored = evaluate(posts, posts.predictions(right), "ours", grounded=False)
    assert scored.report.mner and scored.report.mner.correct == 2
    assert scored.report.gmner and scored.report.gmner.correct == 1
    assert scored.about == "ours, everything read as not in the picture"


def test_evaluate_runs_gives_mean_and_failure_flag(posts: EvalPosts, right: Path, half: Path) -> None:
    spreads, some_failed = evaluate_runs(posts, [right, half])
    assert spreads["mner"].mean == pytest.approx((1 + 2 / 3) / 2) and not some_failed


def test_read_posts_with_ids_keeps_listed_posts(tmp_path: Path) -> None:
    ids = write_rows(tmp_path / "ids.txt", ["2"])
    posts = read_posts("gmner", gmner_folder(tmp_path), "dev", ids)
    assert [gold.post.id for gold in posts.data.posts] == ["2"] and len(posts.whole.posts) == 2


def test_write_reports_writes_json_html_and_markdown(posts: EvalPosts, right: Path, tmp_path: Path) -> None:
    scored = evaluate(posts, posts.predictions(right), "ours")
    files = {"json": tmp_path / "r.json", "html": tmp_path / "r.html", "markdown": tmp_path / "r.md"}
    write_reports(scored, **files)
    assert json.loads(files["json"].read_text())["mner"]["f1"] == 1
    assert "ours" in files["html"].read_text() and "ours" in files["markdown"].read_text()
