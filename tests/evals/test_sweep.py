"""Sweeps over one cassette: filled once, then no tool is called."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from namepin.agent.cli.suggest import suggest_for
from namepin.agent.cli.sweep import sweep as command
from namepin.agent.workflows.sweep import check_policies, fill, idle_axes, replayed_from
from namepin.evals.datasets.gold import Dataset
from namepin.evals.sweep import Point, axes, grid, policies, sweep
from namepin.graphs.recording.cassette import LINES
from namepin.tools.errors import NamepinError
from support import sweep_tools

OVER = ["gate.gamma=0.1,0.2,1", "match.threshold=0.3,0.5", "iou=0.5,0.9"]


def filled(tmp_path: Path, over: list[str] = OVER) -> tuple[Dataset, dict[str, sweep_tools.Counted]]:
    dataset, made = sweep_tools.data(tmp_path / "gmner"), sweep_tools.tools()
    fill(tmp_path / "cassette", dataset, sweep_tools.pin(made), policies(grid(axes(over))))
    return dataset, made


def swept(tmp_path: Path, dataset: Dataset, over: list[str] = OVER, **more: Any) -> dict[tuple[str, ...], Point]:
    points = sweep(dataset, grid(axes(over)), replayed_from(tmp_path / "cassette", dataset), **more)
    return {tuple(point.at.values()): point for point in points}


def test_sweep_scores_every_combination_as_hand_computed(tmp_path: Path) -> None:
    dataset, _ = filled(tmp_path)
    found = swept(tmp_path, dataset)
    assert len(found) == 12
    # gamma 0.1: all three are reranked to LOC, of which Ana is wrong. 0.2: Ana (H = 0.1985) stays PER. 1: all stay PER.
    assert [found[gamma, "0.5", "0.5"].f1["mner"].value for gamma in ("0.1", "0.2", "1")] == pytest.approx(
        [2 / 3, 1, 1 / 3]
    )
    # threshold 0.3 puts Boo (0.4) into the picture, where it is not; the boxes are exact.
    assert found["0.2", "0.5", "0.5"].f1["gmner"].value == 1
    assert found["0.2", "0.3", "0.9"].f1["gmner"].value == pytest.approx(2 / 3)


def test_sweep_after_fill_calls_no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset, made = filled(tmp_path)
    before = {name: tool.calls for name, tool in made.items()}
    assert all(before.values())

    def cut_off(*_: object) -> None:
        raise AssertionError("a tool was asked for")

    for kind in (sweep_tools.Counted, *map(type, made.values())):
        monkeypatch.setattr(kind, "run", cut_off)
    monkeypatch.setattr("namepin.agent.config.build.build_tool", cut_off)
    monkeypatch.setattr("namepin.graphs.calls.LiveCalls.call", cut_off)
    assert len(swept(tmp_path, dataset)) == 12
    assert {name: tool.calls for name, tool in made.items()} == before


def test_sweep_with_unfilled_call_raises_e402(tmp_path: Path) -> None:
    dataset, _ = filled(tmp_path, ["gate.gamma=1", "match.threshold=0.5"])
    with pytest.raises(NamepinError, match=r"E402.*--fill"):
        swept(tmp_path, dataset, ["gate.gamma=0.1"])


def test_fill_again_calls_nothing_and_keeps_cassette_bytes(tmp_path: Path) -> None:
    dataset, _ = filled(tmp_path)
    before, again = (tmp_path / "cassette" / LINES).read_bytes(), sweep_tools.tools()
    fill(tmp_path / "cassette", dataset, sweep_tools.pin(again), policies(grid(axes(OVER))))
    assert (tmp_path / "cassette" / LINES).read_bytes() == before
    assert not any(tool.calls for tool in again.values())


def test_fill_after_interrupt_resumes(tmp_path: Path) -> None:
    dataset, made = sweep_tools.data(tmp_path / "gmner"), sweep_tools.tools()
    asked = policies(grid(axes(OVER)))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "cassette", dataset, sweep_tools.pin(made), asked, stop)
    assert made["tagger"].calls == 1
    again = sweep_tools.tools()
    fill(tmp_path / "cassette", dataset, sweep_tools.pin(again), asked)
    assert again["tagger"].calls == 1 and len(swept(tmp_path, dataset)) == 12


def test_fill_with_other_tools_raises_e405(tmp_path: Path) -> None:
    dataset, made = filled(tmp_path)
    made.pop("reranker")
    with pytest.raises(NamepinError, match=r"E405.*reranker"):
        fill(tmp_path / "cassette", dataset, sweep_tools.pin(made), [{"gate.gamma": 0.3}])


def test_idle_axes_name_axis_without_its_tool(tmp_path: Path) -> None:
    dataset, made = sweep_tools.data(tmp_path / "gmner"), sweep_tools.tools()
    made.pop("reranker")
    fill(tmp_path / "cassette", dataset, sweep_tools.pin(made), [{}])
    (line,) = idle_axes(tmp_path / "cassette", ["gate.gamma", "match.threshold", "iou"])
    assert line.startswith("gate.gamma changes nothing: no reranker or extractor")


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command("sweep")(command)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["sweep", *map(str, arguments)], standalone_mode=False)


def test_sweep_command_writes_table_json_and_page_and_resumes(tmp_path: Path) -> None:
    filled(tmp_path)
    out, page = tmp_path / "sweep.json", tmp_path / "sweep.html"
    given = ["--dataset", "gmner", "--root", tmp_path / "gmner", "--json", out]
    first = run(tmp_path / "cassette", "--over", "gate.gamma=0.1,1", *given)
    assert first.return_value == 0 and "gate.gamma" in first.stdout and "66.67" in first.stdout
    # A value that no replay could give shows that known points are taken over.
    stored = json.loads(out.read_text())
    stored["points"][0]["f1"]["mner"]["value"] = 0.1234
    out.write_text(json.dumps(stored))
    more = run(tmp_path / "cassette", "--over", "gate.gamma=0.1,1,2", "--html", page, *given)
    assert "12.34" in more.stdout and len(json.loads(out.read_text())["points"]) == 3
    assert "<svg" in page.read_text("utf-8") and "gate.gamma" in page.read_text("utf-8")


def test_sweep_command_without_folder_records_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep_tools.data(tmp_path / "gmner")
    monkeypatch.chdir(tmp_path)
    given = ["--over", "gate.gamma=0.1,1", "--dataset", "gmner", "--root", tmp_path / "gmner", "--profile", "starter"]
    assert run(*given).return_value == 0
    (recorded,) = (tmp_path / "out" / "sweep").iterdir()
    assert recorded.name == "starter-gmner-dev"
    before = sorted(path.stat().st_mtime_ns for path in recorded.rglob("*") if path.suffix == ".jsonl")
    assert run(*given).return_value == 0 and before
    assert before == sorted(p.stat().st_mtime_ns for p in recorded.rglob("*") if p.suffix == ".jsonl"), "nothing new"


@pytest.mark.parametrize(
    ("over", "code"),
    [
        (["gate.gamma"], "E139"),
        (["gate.gamma=high"], "E139"),
        (["gate.gamma=-1"], "E404"),
        (["gate.gama=1"], "E404"),
        (["protocol=mine"], "E139"),
        (["iou=2"], "E139"),
        (["gate.gamma=1", "gate.gamma=2"], "E139"),
        (["tagger.lexicon=0,1"], "E404"),
    ],
)
def test_check_policies_with_invalid_axes_raises_coded_error(over: list[str], code: str) -> None:
    with pytest.raises(NamepinError, match=code):
        check_policies(policies(grid(axes(over))))


def test_sweep_of_folder_without_cassette_raises_e401(tmp_path: Path) -> None:
    result = run(tmp_path / "none", "--over", "iou=0.5", "--dataset", "gmner", "--root", sweep_tools.folder(tmp_path))
    assert isinstance(result.exception, NamepinError) and result.exception.code == "E401"


def test_suggest_for_dev_posts_returns_best_values_with_curves(tmp_path: Path) -> None:
    dataset, made = sweep_tools.data(tmp_path), sweep_tools.tools()
    settings = {"gate": {"gamma": 1.0}, "match": {"threshold": 0.2}}
    pin = sweep_tools.pin(made)
    pin.settings = type(pin.settings).model_validate({"profile": "test", **settings})
    gamma, threshold = suggest_for(pin, dataset, ["gamma", "match-threshold"], Console(quiet=True))
    assert (gamma.key, gamma.task, gamma.current) == ("gate.gamma", "mner", 1.0)
    assert gamma.best == 0.6 and dict(gamma.curve)[0.6].value == 1  # of 0.2 to 0.6, the nearest to 1
    assert threshold.key == "match.threshold" and threshold.best == pytest.approx(0.45)
    assert gamma.gain.difference.value == pytest.approx(2 / 3)


@pytest.mark.parametrize(("split", "off"), [("test", ""), ("dev", "reranker")])
def test_suggest_for_test_split_or_missing_role_raises_e139(tmp_path: Path, split: str, off: str) -> None:
    dataset, made = sweep_tools.data(tmp_path, split), sweep_tools.tools()
    made.pop(off, None)
    with pytest.raises(NamepinError, match="E139"):
        suggest_for(sweep_tools.pin(made), dataset, ["gamma"], Console(quiet=True))
