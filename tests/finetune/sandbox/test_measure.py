"""Measurements of trained sandboxes: printable commands, run once, and averages over seeds."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from namepin.agent.config.settings import load_settings
from namepin.finetune.sandbox import measure as module
from namepin.finetune.sandbox.measure import MEASURES, TRACED, command, measure, table
from namepin.finetune.sandbox.train import write_profile


def report(share: float) -> dict[str, Any]:
    """What `namepin eval --json` writes, as far as the table reads it."""
    score = {"f1": share}
    regions = {"precision_at_iou": share, "small": {"precision_at_iou": share}}
    found = {name: score for name in ("mner", "gmner", "eeg", "smner")}
    return {**found, "fine": {"mner": score, "gmner": score}, "groundability": {"accuracy": share}, "regions": regions}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were run, each of which writes a report; traces are made, too."""
    words: list[list[str]] = []

    def run(told: list[str], log: Path) -> None:
        words.append(told)
        Path(told[-1]).write_text(json.dumps(report(0.5 if "/one/" in told[-1] else 0.7)))

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(module, "hits", lambda world, split, weights: (3, 4, 0.1))
    return words


def test_measure_runs_each_command_once_until_nets_change(ran: list[list[str]], tmp_path: Path) -> None:
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        out.mkdir()
    measure(outs, "test")
    assert len(ran) == 2 * len(MEASURES)
    assert sorted(map(str, ran)) == sorted(str(command(name, out, "test")) for out in outs for name in MEASURES)
    measure(outs, "test")
    assert len(ran) == 2 * len(MEASURES), "nothing has changed"
    done = outs[0] / "tagger" / "done.json"
    done.parent.mkdir()
    done.write_text("{}")
    later = max(file.stat().st_mtime for file in (outs[0] / "measured").iterdir()) + 1
    os.utime(done, (later, later))
    measure(outs, "test")
    assert len(ran) == 3 * len(MEASURES), "its nets are new"
    (outs[1] / "measured/test-GEM.json").write_text("")  # as a run that is killed leaves it
    measure(outs[1:], "test")
    assert len(ran) == 3 * len(MEASURES) + 1 and "two/measured/test-GEM.json" in ran[-1][-1]


def test_measure_table_shows_means_and_deviations(ran: list[list[str]], tmp_path: Path) -> None:
    outs = [tmp_path / "one", tmp_path / "two"]
    for out in outs:
        out.mkdir()
    measure(outs, "dev")
    lines = table(outs, "dev").splitlines()
    assert [line.split(" | ")[1] for line in lines[2 : 2 + len(MEASURES)]] == ["60.0 ± 14.1"] * len(MEASURES)
    assert lines[-len(TRACED) :] == [f"{name}: 75.0 ± 0.0" for name in TRACED]
    assert " | 50.0 |" in table(outs[:1], "dev"), "one training has no deviation"


def test_measure_table_with_missing_number_leaves_cell_empty(ran: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    measure([tmp_path / "one"], "dev")
    (tmp_path / "one/measured/dev-text-only.json").write_text(json.dumps({**report(0.5), "regions": None}))
    [line] = [line for line in table([tmp_path / "one"], "dev").splitlines() if line.startswith("| text only")]
    assert line.endswith("| 50.0 |  |  |")


def test_write_profile_refers_to_output_folder_only(tmp_path: Path) -> None:
    write_profile(tmp_path)
    trained = json.dumps(load_settings(str(tmp_path / "profile.toml"), environment={}).dump())
    assert trained.count(str(tmp_path)) == 7 and "out/sandbox" not in trained


@pytest.mark.parametrize("name", ["measure", "tracing", "baselines", "pack"])
def test_sandbox_scripts_without_input_print_one_error_line(tmp_path: Path, name: str) -> None:
    more = {"tracing": ["--weights", "none"], "pack": [str(tmp_path / "target")]}.get(name, [])
    words = [sys.executable, "-m", f"namepin.finetune.sandbox.{name}", str(tmp_path / "none"), *more]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 2 and ended.stderr.startswith("error: E") and ended.stderr.count("\n") == 1
