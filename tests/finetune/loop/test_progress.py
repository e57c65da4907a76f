"""What a training run says about its progress where its output is a log file."""

import json

import pytest

from namepin.finetune.loop.progress import EVERY, ProgressReport


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_progress_in_log_file_prints_line_every_30_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressReport("matcher", total=100, done=40, clock=clock) as progress:
        for step in range(20):
            clock.now += 7
            progress.step(f"epoch 1 of 2, loss {step}")
    assert EVERY == 30
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4, "140 seconds"
    assert lines[0] == "matcher: step 45 of 100, epoch 1 of 2, loss 4, 0:00:35 so far, about 0:06:25 left"


def test_progress_of_scoring_and_scores_is_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressReport("matcher", total=10, clock=Clock()) as progress:
        progress.note("epoch 1 of 1, scoring dev")
        progress.row({"epoch": 1, "f1": 0.5})
    note, row = capsys.readouterr().out.splitlines()
    assert note == "matcher: step 0 of 10, epoch 1 of 1, scoring dev, 0:00:00 so far"
    assert json.loads(row) == {"epoch": 1, "f1": 0.5}


def test_progress_of_further_processes_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressReport("matcher", total=10, quiet=True, clock=clock) as progress:
        clock.now += 100
        progress.step("epoch 1 of 1, loss 1")
        progress.note("epoch 1 of 1, scoring dev")
        progress.row({"epoch": 1})
    assert capsys.readouterr().out == ""


def test_progress_on_terminal_is_bar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    from namepin.finetune.loop import progress as module

    console = Console(force_terminal=True, width=120)
    monkeypatch.setattr(module, "get_console", lambda: console)
    clock = Clock()
    with ProgressReport("matcher", total=2, clock=clock) as progress:
        clock.now += 100
        progress.step("epoch 1 of 1, loss 1")
        progress.note("epoch 1 of 1, scoring dev")
        progress.row({"epoch": 1})
    said = capsys.readouterr().out
    assert "step 1 of 2" not in said and '"epoch"' in said
