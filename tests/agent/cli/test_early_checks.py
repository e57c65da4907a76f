"""Faults that a command can see at once are told before anything slow, and a check leaves nothing behind."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from namepin.agent.cli.checks import check_writable
from support.cli import Cli
from support.paths import ROOT
from support.processes import environment

SLOW = "loading"
"""What a command says before it imports and builds."""


def refused(cli: Cli, *arguments: str | Path, code: str, says: str = "") -> None:
    ran = cli(*arguments)
    assert ran.code == 2 and code in ran.err and says in ran.err and SLOW not in ran.err, ran.err


@pytest.mark.parametrize("text", ["", "\n", "# nothing yet\n"])
def test_finetune_with_a_config_that_sets_nothing_is_refused(cli: Cli, tmp_path: Path, text: str) -> None:
    (tmp_path / "recipe.toml").write_text(text)
    refused(cli, "finetune", "tagger", "--config", tmp_path / "recipe.toml", code="E201", says="sets nothing")


def test_finetune_into_a_file_is_refused_before_pytorch_is_loaded(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    into = f"out={tmp_path / 'out'}"
    refused(cli, "finetune", "tagger", "--set", into, code="E500", says="--set out=DIR")
    assert (tmp_path / "out").read_text() == "mine"


def a_file(path: Path) -> None:
    path.write_text("mine")


def a_damaged_manifest(path: Path) -> None:
    path.mkdir()
    (path / "manifest.json").write_text("{")


def a_link_to_blobs(path: Path) -> None:
    path.mkdir()
    (path.parent / "outside").mkdir()
    (path / "blobs").symlink_to(path.parent / "outside")


@pytest.mark.parametrize(("fault", "code"), [(a_file, "E501"), (a_damaged_manifest, "E401"), (a_link_to_blobs, "E401")])
def test_extract_with_an_unusable_record_folder_is_refused(
    cli: Cli, tmp_path: Path, fault: Callable[[Path], None], code: str
) -> None:
    fault(tmp_path / "tape")
    refused(cli, "extract", "Bob Dylan in Oslo", "--record", tmp_path / "tape", code=code)


def test_batch_of_a_missing_data_set_is_refused(cli: Cli, tmp_path: Path) -> None:
    refused(cli, "batch", f"gmner:{tmp_path / 'nowhere'}:dev", "--out", tmp_path / "out", code="E130")
    refused(cli, "batch", f"gmner:{tmp_path / 'nowhere'}:dev", "--estimate", "5", code="E130")


@pytest.mark.parametrize("flags", [(), ("--repair",), ("--only", "masks")])
def test_batch_of_a_file_among_its_own_results_is_refused(cli: Cli, tmp_path: Path, flags: tuple[str, ...]) -> None:
    posts = tmp_path / "predictions.jsonl"
    posts.write_text('{"id": "a", "text": "Bob Dylan in Oslo"}\n')
    refused(cli, "batch", posts, "--out", tmp_path / "." / "", *flags, code="E105")
    assert posts.read_text() == '{"id": "a", "text": "Bob Dylan in Oslo"}\n'


def test_sweep_over_an_unknown_setting_names_its_flag(cli: Cli, tmp_path: Path) -> None:
    for over, says in (("nothing=1", "cannot vary 'nothing'"), ("gate.gama=1", "did you mean gate.gamma?")):
        ran = cli("sweep", tmp_path, "--over", over, "--dataset", "gmner", "--root", tmp_path)
        assert ran.code == 2 and "E404" in ran.err and "--over" in ran.err and says in ran.err
        assert "--set" not in ran.err


def test_eval_of_predictions_with_settings_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("")
    given = ("--dataset", "gmner", "--root", tmp_path, "--split", "dev", "--predictions", tmp_path / "p.jsonl")
    refused(cli, "eval", *given, "--set", "gate.gamma=0.4", code="E139", says="--set")


def test_check_of_a_file_to_write_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text("mine")
    check_writable(tmp_path / "kept.json")
    check_writable(tmp_path / "new.json")
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"] and (
        tmp_path / "kept.json"
    ).read_text() == "mine"


def run_python(text: str) -> "subprocess.CompletedProcess[str]":
    path = str(ROOT / "tests")
    command = [sys.executable, "-W", "default", "-c", text]
    return subprocess.run(command, capture_output=True, text=True, env=environment(PYTHONPATH=path), check=True)


def test_list_of_ablations_loads_no_pytorch() -> None:
    listed = "import json, sys; from namepin.agent.cli.main import main; main(['ablate']); "
    ran = run_python(listed + "print(json.dumps([name in sys.modules for name in ('torch', 'transformers')]))")
    head, first = ran.stdout.splitlines()[:2]
    assert head.split() == ["name", "ready", "data", "needs", "paper", "varies"] and " rows " in first
    assert json.loads(ran.stdout.splitlines()[-1]) == [False, False]


def test_decoders_end_with_the_interpreter_without_a_warning() -> None:
    ran = run_python(
        "from support.hostile_pictures import slow_jpeg; from namepin.tools.images import load\n"
        "load.load_image(slow_jpeg()); assert load._processes._idle"
    )
    assert ran.stderr == ""
