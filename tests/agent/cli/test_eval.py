"""`namepin eval` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from namepin.agent.cli.eval import register
from namepin.evals.datasets import READERS
from namepin.tools.errors import NamepinError
from support.eval_samples import gmner_folder, write_rows


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["eval", *map(str, arguments)], standalone_mode=False)


def scored(root: Path, rows: list[Any], *arguments: str | Path) -> tuple[Result, dict[str, Any]]:
    out = root / "report.json"
    file = write_rows(root / "predictions.jsonl", rows)
    result = run(
        "--dataset", "gmner", "--root", root, "--split", "dev", "--predictions", file, "--json", out, *arguments
    )
    return result, json.loads(out.read_text()) if result.exception is None else {}


ANGELINA = {"label": "PER", "start": 0, "end": 14, "box": [10, 10, 50, 60]}
ROME = {"label": "LOC", "token_span": [3, 4]}
ROWS = [{"id": "1", "entities": [ANGELINA, ROME]}, {"id": "2", "entities": []}]


def test_eval_of_predictions_prints_and_writes_scores(tmp_path: Path) -> None:
    result, report = scored(gmner_folder(tmp_path), ROWS)
    assert result.return_value == 0
    assert report["mner"]["f1"] == report["gmner"]["f1"] == report["eeg"]["f1"] == 1
    assert (report["dataset"], report["split"], report["protocol"], report["n_posts"]) == (
        "gmner",
        "dev",
        "canonical",
        2,
    )
    assert report["smner"] is None and report["fine"] is None
    assert "GMNER" in result.stdout and "2 posts, sha256" in result.stdout


def test_eval_of_several_runs_reports_mean_and_deviation(tmp_path: Path) -> None:
    root, out = gmner_folder(tmp_path), tmp_path / "spread.json"
    split = ("--dataset", "gmner", "--root", root, "--split", "dev")
    whole = write_rows(tmp_path / "a.jsonl", ROWS)
    half = write_rows(tmp_path / "b.jsonl", [{"id": "1", "entities": [ANGELINA]}, ROWS[1]])
    result = run(*split, "--predictions", whole, "--predictions", half, "--json", out)
    spread = json.loads(out.read_text())["gmner"]
    assert spread["values"] == pytest.approx([1, 2 / 3]) and spread["mean"] == pytest.approx(5 / 6)
    assert spread["deviation"] == pytest.approx(0.2357, abs=1e-4)
    assert result.return_value == 0 and "83.33" in result.stdout and "23.57" in result.stdout
    result = run(*split, "--predictions", whole, "--predictions", half, "--html", tmp_path / "r.html")
    assert isinstance(result.exception, NamepinError) and result.exception.code == "E139"


def test_eval_with_ids_scores_only_listed_posts(tmp_path: Path) -> None:
    gmner_folder(tmp_path)
    ids = write_rows(tmp_path / "ids.txt", ["2"])
    _, report = scored(tmp_path, ROWS, "--ids", ids)
    assert report["n_posts"] == 1 and report["mner"]["gold"] == 0 and not report["problems"]


def test_eval_with_visual_none_drops_predicted_boxes(tmp_path: Path) -> None:
    _, report = scored(gmner_folder(tmp_path), ROWS, "--visual", "none")
    assert report["mner"]["correct"] == 2 and report["gmner"]["correct"] == 1


def test_eval_with_protocol_or_iou_changes_score(tmp_path: Path) -> None:
    gmner_folder(tmp_path)
    rows = [{"id": "1", "entities": [ANGELINA | {"box": [10, 10, 50, 35]}]}, {"id": "2", "entities": []}]
    assert scored(tmp_path, rows)[1]["gmner"]["correct"] == 1
    assert scored(tmp_path, rows, "--protocol", "hindex")[1]["gmner"]["correct"] == 0
    assert scored(tmp_path, rows, "--iou", "0.6")[1]["gmner"]["correct"] == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--profile", "starter"], "E139"),
        (["--knowledge", "recorded"], "E139"),
        (["--iou", "2"], "E139"),
        (["--json", "/proc/none/x.json"], "E500"),
    ],
)
def test_eval_with_invalid_flags_raises_coded_error(tmp_path: Path, arguments: list[str], code: str) -> None:
    result, _ = scored(gmner_folder(tmp_path), ROWS, *arguments)
    assert isinstance(result.exception, NamepinError) and result.exception.code == code


def test_eval_with_missing_root_raises_e130(tmp_path: Path) -> None:
    result = run("--dataset", "gmner", "--root", tmp_path / "none", "--split", "dev")
    assert isinstance(result.exception, NamepinError) and result.exception.code == "E130"


def test_eval_with_invalid_gold_tag_scores_and_lists_e132(tmp_path: Path) -> None:
    root = gmner_folder(tmp_path, "IMGID:1\nAngelina\tI-PER\nJolie\tI-PER\nin\tO\nRome\tB-LOC\n")
    result, report = scored(root, ROWS[:1])
    assert report["mner"]["f1"] == 1
    assert [p["code"] for p in report["problems"]] == ["E132"] and "dev.txt:2" in result.stdout.replace("\n", "")


@pytest.mark.data
def test_eval_of_real_gold_as_predictions_scores_one(data_root: Path, tmp_path: Path) -> None:
    data = READERS["gmner"](data_root / "gmner", "dev")
    rows = [
        {
            "id": gold.post.id,
            "entities": [
                {"label": e.label, "start": e.span[0], "end": e.span[1], "box": e.boxes[-1] if e.boxes else None}
                for e in gold.entities
            ],
        }
        for gold in data.posts
    ]
    file, out = write_rows(tmp_path / "p.jsonl", rows), tmp_path / "r.json"
    split = ("--dataset", "gmner", "--root", data_root / "gmner", "--split", "dev")
    assert run(*split, "--predictions", file, "--json", out, "--protocol", "riveg").return_value == 0
    report = json.loads(out.read_text())
    assert report["gmner"]["f1"] == 1 and report["gmner"]["gold"] == 2450
