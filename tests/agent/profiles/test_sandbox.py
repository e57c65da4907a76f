"""The shipped sandbox nets: every neural tool runs offline, and they know the world that they were trained on."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from namepin.agent.cli.eval import register
from namepin.agent.config.settings import load_settings
from namepin.agent.workflows.checkpoint_sizes import wanted_weights
from namepin.finetune.sandbox.train import write_profile
from namepin.finetune.sandbox.write import write_world
from namepin.tools.loading.shipped import WEIGHTS

LIMIT = 21_500_000
"""Bytes: 20 MB of weights, and 1.2 MB of digests of the posts that they were trained on."""
"""Bytes of all that ships for the sandbox."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sandbox") / "world"
    write_world(root, {"train": 1, "dev": 60, "test": 1}, 1, quiet=True)
    return root


def scores(world: Path, out: Path, *more: str) -> dict[str, Any]:
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    words = ["eval", "--dataset", "sandbox", "--root", str(world), "--split", "dev", "--profile", "sandbox"]
    result = CliRunner().invoke(
        app, [*words, "--knowledge", "recorded", "--json", str(out), *more], standalone_mode=False
    )
    assert result.exception is None, result.exception
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_sandbox_gem_graph_beats_text_only_scores(world: Path, tmp_path: Path) -> None:
    whole = scores(world, tmp_path / "gem.json")
    text = scores(world, tmp_path / "text.json", "--visual", "none")
    assert whole["gmner"]["f1"] > text["gmner"]["f1"] + 0.05 and whole["fine"]["mner"]["f1"] > 0.7
    assert not whole["failed_ids"] and whole["regions"]["precision_at_iou"] > 0.35


def test_sandbox_riveg_graph_reaches_grounding_scores(world: Path, tmp_path: Path) -> None:
    expansions = ("expansion.backend=recorded", f"expansion.file={world / 'expansions/dev.jsonl'}")
    more = [word for one in ("graph=riveg", *expansions) for word in ("--set", one)]
    found = scores(world, tmp_path / "riveg.json", *more)
    assert found["groundability"]["accuracy"] > 0.75 and found["regions"]["precision_at_iou"] > 0.2


def test_sandbox_profile_needs_no_download() -> None:
    settings = load_settings("sandbox", environment={})
    needed = [one for tool in settings.tools.values() for one in wanted_weights(tool.config)]
    assert needed and all(one.here for one in needed)


def test_sandbox_weights_stay_below_limit_and_hold_trained_stages_only() -> None:
    files = [file for file in (WEIGHTS / "sandbox").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= LIMIT
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".md", ".txt"}
    trained = {file.parent.name for file in files if file.name == "namepin.json"} | {"tagger"}
    assert trained == {"matcher", "entailment", "segmenter", "grounder", "reranker", "tagger"}


def test_sandbox_profile_equals_profile_of_make_sandbox(tmp_path: Path) -> None:
    """But for where the weights are."""
    shipped = load_settings("sandbox", environment={}).dump()
    write_profile(tmp_path)
    trained = json.dumps(load_settings(str(tmp_path / "profile.toml"), environment={}).dump())
    for stage in ("matcher", "entailment", "segmenter", "grounder", "reranker"):
        trained = trained.replace(f"{tmp_path}/{stage}/weights", f"sandbox/{stage}")
    assert json.loads(trained.replace(f"{tmp_path}/tagger/adapter", "sandbox/tagger")) == shipped
