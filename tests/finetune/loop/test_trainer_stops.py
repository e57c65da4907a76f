"""Errors that stop a training run, their messages, and no loss of work, with the matcher as example."""

import math
import pickle
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from namepin.agent.cli.main import app
from namepin.finetune.loop.run_folder import CHECKPOINT, disk_errors
from namepin.finetune.loop.trainer import Run
from namepin.finetune.matcher import MatcherTask, train
from namepin.finetune.recipes.matcher import MatcherRecipe
from namepin.tools.errors import NamepinError, ToolUnavailable
from support.tiny_blip import save_folder, tiny_net
from support.tiny_world import write_world


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "world")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_net(image_size=32), tmp_path_factory.mktemp("blip"))


def a_recipe(world: Path, weights: Path, out: Path, **changes: Any) -> MatcherRecipe:
    given: dict[str, Any] = {"epochs": 2, "lr": 1e-3, "batch_size": 4, "patience": 9, "cpu": True}
    return MatcherRecipe(root=str(world), weights=str(weights), out=str(out), **(given | changes))


def state(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(out / CHECKPOINT, weights_only=True)
    return found


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A disk that is full after so many bytes of a file."""
    was, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, was[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, handler)


def test_trainer_on_full_disk_leaves_no_partial_weights(world: Path, weights: Path, tmp_path: Path) -> None:
    run = Run(a_recipe(world, weights, tmp_path / "out"), MatcherTask(a_recipe(world, weights, tmp_path / "out")))
    list(run._epoch())
    run.out.mkdir()
    with files_of_at_most(10_000), pytest.raises(NamepinError, match=r"E500.*--resume"):
        run._evaluate()
    assert list(run.out.iterdir()) == [], "half of the weights would be in the way"


def test_disk_errors_reraises_other_errors_unchanged(tmp_path: Path) -> None:
    for error in (RuntimeError("shapes differ"), ValueError("x"), NamepinError("E139", "nothing")):
        with pytest.raises(type(error), match=str(error)), disk_errors(tmp_path):
            raise error


def test_trainer_on_full_disk_leaves_no_partial_checkpoint(world: Path, weights: Path, tmp_path: Path) -> None:
    run = Run(a_recipe(world, weights, tmp_path / "out"), MatcherTask(a_recipe(world, weights, tmp_path / "out")))
    run.out.mkdir()
    with files_of_at_most(10_000), pytest.raises(NamepinError, match="E500"):
        run._checkpoint()
    assert list(run.out.iterdir()) == []


def test_trainer_with_infinite_weights_raises_e220(world: Path, weights: Path, tmp_path: Path) -> None:
    run = Run(a_recipe(world, weights, tmp_path / "out"), MatcherTask(a_recipe(world, weights, tmp_path / "out")))
    list(run._epoch())
    with torch.no_grad():
        run.task.net.itm_head.bias[0] = math.inf  # type: ignore[union-attr, index, operator]
    with pytest.raises(NamepinError, match=r"E220: itm_head\.bias"):
        run._keep(run.out / run.task.folder)
    assert not (tmp_path / "out" / "weights").exists()


def test_trainer_with_nan_gradient_raises_e220_and_saves_nothing(
    world: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = MatcherTask.loss

    def broken(self: MatcherTask, net: Any, batch: Any) -> torch.Tensor:
        bias = net.itm_head.bias
        return whole(self, net, batch) + 0 * torch.sqrt(bias - bias).sum()  # 0 has no slope there

    monkeypatch.setattr(MatcherTask, "loss", broken)
    with pytest.raises(NamepinError, match=r"E220: the gradient's norm is nan at step 1"):
        train(a_recipe(world, weights, tmp_path / "out"))
    assert not (tmp_path / "out" / "weights").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_trainer_with_damaged_picture_raises_e124(world: Path, weights: Path, tmp_path: Path, workers: int) -> None:
    picture = world / "images" / "train3.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    with pytest.raises(NamepinError, match=r"E124.*train3\.jpg"):
        train(a_recipe(world, weights, tmp_path / "out", workers=workers))


def test_trainer_with_damaged_dev_picture_resumes_after_epoch(world: Path, weights: Path, tmp_path: Path) -> None:
    picture = world / "images" / "dev3.jpg"
    whole = picture.read_bytes()
    train(a_recipe(world, weights, tmp_path / "undisturbed"))
    picture.write_bytes(whole[:300])
    with pytest.raises(NamepinError, match=r"E124.*dev3\.jpg"):
        train(a_recipe(world, weights, tmp_path / "out"))
    assert state(tmp_path / "out")["now"]["done"] == 2 and not state(tmp_path / "out")["history"]
    picture.write_bytes(whole)
    train(a_recipe(world, weights, tmp_path / "out"), resume=True)
    assert state(tmp_path / "out")["history"] == state(tmp_path / "undisturbed")["history"]


@pytest.mark.parametrize(("file", "was", "now"), [("txt/train.txt", "runs", "walks"), ("xml/dev0.xml", "8", "9")])
def test_trainer_resume_with_other_data_raises_e205(
    world: Path, weights: Path, tmp_path: Path, file: str, was: str, now: str
) -> None:
    train(a_recipe(world, weights, tmp_path / "out", epochs=1))
    text = world / file
    text.write_text(text.read_text().replace(was, now))
    split = Path(file).name[:3]
    with pytest.raises(NamepinError, match=rf"E205.*another .*{split}.*or choose another"):
        train(a_recipe(world, weights, tmp_path / "out", epochs=1), resume=True)


@pytest.mark.parametrize("out", ["file", "file/below"])
def test_finetune_with_unusable_out_raises_e500(tmp_path: Path, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    told = ["--set", f"out={tmp_path / out}", "--set", "root=nowhere", "--set", "weights=nothing"]
    with pytest.raises(NamepinError, match=rf"E500.*{out}"):
        CliRunner().invoke(app, ["finetune", "matcher", *told], catch_exceptions=False)


def test_namepin_error_pickle_roundtrip_keeps_fields() -> None:
    error = NamepinError("E124", "damaged", where="x.jpg", mend="save it again")
    for one in (error, ToolUnavailable("matcher", "down", mend="start it")):
        again = pickle.loads(pickle.dumps(one))
        assert type(again) is type(one) and vars(again) == vars(one) and str(again) == str(one)


TOOLS = ("matcher", "entailment", "fusion", "grounder", "reranker", "segmenter")
WRONG = [(tool, f"{name}=0") for tool in TOOLS for name in ("epochs", "batch_size", "lr")]
WRONG += [("grounder", "jitter=0.5"), ("grounder", "beams=0"), ("matcher", "weight_decay=-1")]
WRONG += [("fusion", "lr=inf"), ("segmenter", "lr=1e38"), ("tagger", "clip=inf"), ("tagger", "lr_heads=nan")]


@pytest.mark.parametrize(("tool", "setting"), WRONG)
def test_finetune_with_number_out_of_range_raises_e203(tool: str, setting: str) -> None:
    root = [] if tool == "tagger" else ["--set", "root=nowhere"]
    with pytest.raises(NamepinError, match=rf"E203: {setting.partition('=')[0]}: Input should be"):
        CliRunner().invoke(app, ["finetune", tool, *root, "--set", setting], catch_exceptions=False)
