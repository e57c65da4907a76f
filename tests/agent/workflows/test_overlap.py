"""`eval`, `ablate` and `sweep` refuse posts that a tool was trained on, in whatever layout they come."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from namepin.agent.cli.ablate import ablate
from namepin.agent.cli.eval import evaluate
from namepin.agent.cli.sweep import sweep
from namepin.agent.config.settings import load_settings
from namepin.agent.workflows.overlap import weight_folders
from namepin.evals.overlap import KEY, TrainedPosts
from namepin.evals.run import load_dataset
from namepin.finetune.data.record_posts import record_posts
from namepin.tools.errors import NamepinError
from namepin.tools.loading.shipped import WEIGHTS
from support.tagger_posts import write_posts

STARTER = WEIGHTS / "starter-tagger"


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command("eval")(evaluate)
    app.command("sweep")(sweep)
    app.command("ablate")(ablate)
    return CliRunner().invoke(app, [str(one) for one in arguments], standalone_mode=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "dev"):
        write_posts(tmp_path / "gmner", split, 12)
    twitter = tmp_path / "twitter"
    twitter.mkdir()
    renamed = (tmp_path / "gmner" / "txt" / "train.txt").read_text().replace("IMGID:train", "IMGID:tweet-")
    (twitter / "test.txt").write_text(renamed)
    return tmp_path


@pytest.fixture
def profile(root: Path) -> Path:
    """The starter, its adapter with the record of the training posts."""
    adapter = root / "adapter"
    adapter.mkdir()
    for name in ("config.json", "adapter.safetensors"):
        (adapter / name).symlink_to(STARTER / name)
    train = load_dataset("gmner", root / "gmner", "train")
    record = TrainedPosts.of((gold.post.id, gold.post.text) for gold in train.posts)
    (adapter / "namepin.json").write_text(json.dumps({KEY: record.model_dump()}))
    file = root / "profile.toml"
    file.write_text(f'[tagger]\nbackend = "dual"\nadapter = "{adapter}"\n')
    return file


@pytest.mark.parametrize(("layout", "split"), [("gmner", "train"), ("twitter", "test")])
def test_eval_on_training_posts_is_refused_in_any_layout(root: Path, profile: Path, layout: str, split: str) -> None:
    words = ("eval", "--dataset", layout, "--root", root / layout, "--split", split, "--profile", profile)
    refused = run(*words)
    assert isinstance(refused.exception, NamepinError) and refused.exception.code == "E141"
    allowed = run(*words, "--allow-overlap", "--json", root / "r.json", "--md", root / "r.md")
    assert allowed.return_value == 0 and "TRAINED ON 12 OF THESE 12 POSTS" in allowed.stdout
    assert json.loads((root / "r.json").read_text())["trained_on"] == 12
    assert "TRAINED ON" in (root / "r.md").read_text()


def test_eval_on_other_posts_is_not_marked(root: Path, profile: Path) -> None:
    dev = root / "gmner" / "txt" / "dev.txt"
    dev.write_text("IMGID:a\nA\tO\npost\tO\nof\tO\nits\tO\nown\tO\nabout\tO\nRome\tB-LOC\n")
    words = ("eval", "--dataset", "gmner", "--root", root / "gmner", "--split", "dev", "--profile", profile)
    result = run(*words, "--json", root / "r.json")
    assert result.return_value == 0 and "TRAINED" not in result.stdout
    assert json.loads((root / "r.json").read_text())["trained_on"] == 0


def test_ablate_on_training_posts_is_refused_before_any_row_runs(
    root: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("ablate", "gem-table5", "--dataset", "gmner", "--root", root / "gmner", "--split", "train")
    words += ("--profile", profile)
    with monkeypatch.context() as patch:
        patch.setattr("namepin.agent.workflows.predict.evaluated_pin", lambda *_: pytest.fail("it ran"))
        refused = run(*words)
    assert isinstance(refused.exception, NamepinError) and refused.exception.code == "E141"
    allowed = run(*words, "--allow-overlap", "--json", root / "t.json")
    ran = [row for row in json.loads((root / "t.json").read_text())["rows"] if row["cells"]]
    assert ran and all(row["trained_on"] == 12 and row["mark"].startswith("TRAINED ON 12") for row in ran)
    assert all(f"{row['name']}: TRAINED ON 12 OF THESE 12 POSTS" in allowed.stdout for row in ran)


def test_sweep_on_training_posts_is_refused(root: Path, profile: Path) -> None:
    words = ("sweep", root / "cassette", "--over", "gate.gamma=0.1,1", "--dataset", "gmner", "--root", root / "gmner")
    words += ("--split", "train")
    refused = run(*words, "--fill", "--profile", profile)
    assert isinstance(refused.exception, NamepinError) and refused.exception.code == "E141"
    assert not (root / "cassette").exists()
    filled = run(*words, "--fill", "--profile", profile, "--allow-overlap", "--html", root / "p.html")
    assert filled.return_value == 0 and "12 recorded posts, TRAINED ON 12" in filled.stdout
    assert "TRAINED ON 12" in (root / "p.html").read_text()
    again = run(*words)
    assert isinstance(again.exception, NamepinError) and again.exception.code == "E141"


def test_weight_folders_names_every_folder_once() -> None:
    sets = ["matcher.blip.weights=sandbox/matcher", "tracer.blip.weights=sandbox/matcher"]
    found = weight_folders(load_settings("sandbox", assignments=sets).dump())
    assert list(found.values()).count(WEIGHTS / "sandbox" / "matcher") == 1
    assert "tagger.adapter=sandbox/tagger" in found


def test_record_posts_with_other_split_raises_e205(root: Path) -> None:
    train = load_dataset("gmner", root / "gmner", "train")
    folder = root / "old"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"training": {"data_sha256": {"train.txt": train.sha256}}}))
    with pytest.raises(NamepinError, match="E205"):
        record_posts(folder, load_dataset("gmner", root / "gmner", "dev"))
    assert record_posts(folder, train).posts == 12
    assert len(json.loads((folder / "config.json").read_text())["training"][KEY]["ids"]) == 12 * 8
    with pytest.raises(NamepinError, match="E210"):
        record_posts(root, train)
