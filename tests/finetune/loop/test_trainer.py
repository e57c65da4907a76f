"""The shared training loop, with the matcher as example: it learns, resumes exactly, and stops early."""

import dataclasses
import json
import math
import os
import resource
import signal
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from namepin.finetune.data.mentions import read_split
from namepin.finetune.loop.fsdp import set_up_fsdp
from namepin.finetune.loop.run_folder import CHECKPOINT, MANIFEST
from namepin.finetune.loop.trainer import Run
from namepin.finetune.matcher import MatcherTask, train
from namepin.finetune.recipes.matcher import MatcherRecipe
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import MatchRequest, Query
from namepin.tools.matcher.blip import BlipMatcher
from namepin.tools.matcher.config import BlipMatcherConfig
from namepin.tools.media import Media
from namepin.tools.models.config import BlipConfig
from support import two_processes
from support.forked import Forked
from support.killed_training import slow_matcher
from support.paths import ROOT
from support.tiny_blip import save_folder, tiny_net
from support.tiny_world import write_world
from support.two_processes import FSDP
from support.waiting import wait_until


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder(tiny_net(image_size=32), tmp_path_factory.mktemp("blip"))


def a_recipe(world: Path, weights: Path, out: Path, **changes: Any) -> MatcherRecipe:
    given: dict[str, Any] = {"epochs": 3, "lr": 1e-3, "batch_size": 4, "warmup": 0.0, "patience": 9, "cpu": True}
    return MatcherRecipe(root=str(world), weights=str(weights), out=str(out), **(given | changes))


def history(out: Path) -> list[dict[str, float]]:
    state = torch.load(out / CHECKPOINT, weights_only=True)
    rows: list[dict[str, float]] = state["history"]
    return rows


def test_matcher_training_learns_and_tool_loads_weights(world: Path, weights: Path, tmp_path: Path) -> None:
    report = train(a_recipe(world, weights, tmp_path, epochs=12))
    losses = [row["loss"] for row in history(tmp_path)]
    assert losses[-1] < 0.2 * losses[0] and report["f1"] == 1.0 and report["accuracy"] == 1.0
    matcher = BlipMatcher(BlipMatcherConfig(blip=BlipConfig(weights=report["weights"])))
    for number, seen in ((0, True), (1, False)):
        loaded = load_image(world / "images" / f"dev{number}.jpg")
        name = ("ada", "bob")[number]
        request = MatchRequest(image=loaded.ref, text="x", queries=(Query(text=name, label="PER", category="PER"),))
        match = matcher.run([request], Media(images={loaded.ref.sha256: loaded.image}))[0].matches[0]
        assert (match.score > 0.5) == seen
    record = json.loads((tmp_path / "weights" / MANIFEST).read_text("utf-8"))
    assert record["settings"]["lr"] == 1e-3 and record["history"][0]["loss"] == losses[0] and record["code"]
    assert record["data_sha256"] == {
        k: v
        for split in ("train", "dev")
        for k, v in read_split(a_recipe(world, weights, tmp_path), split).data.items()
    }
    card = (tmp_path / "weights" / "README.md").read_text("utf-8")
    assert "f1 1.0" in card and str(world) not in card


def test_matcher_limit_takes_first_mentions(world: Path, weights: Path, tmp_path: Path) -> None:
    whole, part = (MatcherTask(a_recipe(world, weights, tmp_path, limit=limit)) for limit in (0, 3))
    assert part.train == whole.train[:3] and part.dev == whole.dev and len(whole.train) > 3


def test_trainer_moving_average_is_saved_and_leaves_steps_unchanged(
    world: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.1, 0.2, 0.1, 0.2])
    monkeypatch.setattr(MatcherTask, "score", lambda self: {"f1": next(scores)})
    for run, ema in (("average", 0.9), ("latest", 0.0)):
        train(a_recipe(world, weights, tmp_path / run, epochs=2, ema=ema))
    averaged, latest = (torch.load(tmp_path / run / CHECKPOINT, weights_only=True) for run in ("average", "latest"))
    assert all(torch.equal(averaged["net"][name], value) for name, value in latest["net"].items())
    assert latest["average"] is None and averaged["average"]["steps"] == averaged["now"]["step"]
    name, values = "itm_head.weight", averaged["average"]["values"]
    saved = {run: load_file(tmp_path / run / "weights" / "model.safetensors")[name] for run in ("average", "latest")}
    assert torch.equal(saved["average"], values[name]) and torch.equal(saved["latest"], latest["net"][name])
    assert not torch.equal(values[name], latest["net"][name])


def test_trainer_gradient_accumulation_gives_equal_loss(world: Path, weights: Path, tmp_path: Path) -> None:
    whole, parts = (
        train(a_recipe(world, weights, tmp_path / str(n), accumulate=n, epochs=1, weight_decay=0.0)) for n in (1, 3)
    )
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-4)


def test_trainer_after_sigkill_resumes_to_same_weights(world: Path, weights: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle of an epoch; the resumed run has the losses and the weights of one that was left alone."""
    undisturbed, killed = tmp_path / "whole", tmp_path / "killed"
    settings = {"checkpoint_steps": 1, "epochs": 4}
    train(a_recipe(world, weights, undisturbed, **settings))
    given = dataclasses.asdict(a_recipe(world, weights, killed, **settings))
    process = Forked(slow_matcher, given)

    def three_steps() -> bool:
        file = killed / CHECKPOINT
        return file.is_file() and torch.load(file, weights_only=True)["now"]["step"] >= 3

    wait_until(lambda: process.poll() is not None or three_steps(), "three steps")
    process.send_signal(signal.SIGKILL)
    _, said = process.communicate()
    assert process.returncode == -signal.SIGKILL, said.decode()
    assert torch.load(killed / CHECKPOINT, weights_only=True)["now"]["epoch"] < 4
    train(a_recipe(world, weights, killed, **settings), resume=True)
    assert history(killed) == history(undisturbed)
    one, other = (torch.load(out / CHECKPOINT, weights_only=True)["net"] for out in (killed, undisturbed))
    assert all(torch.equal(one[name], other[name]) for name in other)


def test_trainer_resume_with_other_settings_raises_e205(world: Path, weights: Path, tmp_path: Path) -> None:
    train(a_recipe(world, weights, tmp_path, epochs=1))
    with pytest.raises(NamepinError, match=r"E205.*lr"):
        train(a_recipe(world, weights, tmp_path, epochs=1, lr=2e-3), resume=True)
    again = train(a_recipe(world, weights, tmp_path, epochs=1, workers=0, checkpoint_steps=7), resume=True)
    assert again["epoch"] == 1


def test_trainer_patience_ends_run(world: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = iter([0.5, 0.7, 0.6, 0.6, 0.9])
    monkeypatch.setattr(MatcherTask, "score", lambda self: {"f1": next(scores)})
    report = train(a_recipe(world, weights, tmp_path, epochs=5, patience=2))
    assert report["epoch"] == 2 and len(history(tmp_path)) == 4
    assert len(json.loads((tmp_path / "weights" / MANIFEST).read_text("utf-8"))["history"]) == 2


def test_trainer_with_nan_loss_raises_e220_and_keeps_checkpoint(
    world: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, taken = MatcherTask.loss, []

    def broken(self: MatcherTask, net: Any, batch: Any) -> torch.Tensor:
        taken.append(1)
        return whole(self, net, batch) * (math.nan if len(taken) > 3 else 1)

    monkeypatch.setattr(MatcherTask, "loss", broken)
    with pytest.raises(NamepinError, match=r"E220.*nan at step 4, of epoch 2"):
        train(a_recipe(world, weights, tmp_path))
    state = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert state["now"]["epoch"] == 1 and all(value.isfinite().all() for value in state["net"].values())


def test_trainer_on_full_disk_raises_e500_and_keeps_checkpoint(world: Path, weights: Path, tmp_path: Path) -> None:
    run = Run(a_recipe(world, weights, tmp_path), MatcherTask(a_recipe(world, weights, tmp_path)))
    run.out.mkdir(exist_ok=True)
    run._checkpoint()
    before = (tmp_path / CHECKPOINT).read_bytes()
    was = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, was[1]))
        with pytest.raises(NamepinError, match="E500"):
            run._checkpoint()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, was)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


@pytest.mark.parametrize("damage", ["cut", "code", "none"])
def test_trainer_resume_from_damaged_checkpoint_raises(world: Path, weights: Path, tmp_path: Path, damage: str) -> None:
    train(a_recipe(world, weights, tmp_path, epochs=1))
    file = tmp_path / CHECKPOINT
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif damage == "code":
        torch.save({"settings": os.system}, file)
    else:
        file.write_bytes(b"")
    with pytest.raises(NamepinError, match="E214" if damage == "code" else "E211"):
        train(a_recipe(world, weights, tmp_path, epochs=1), resume=True)


def test_matcher_training_on_bad_data_raises_coded_error(weights: Path, tmp_path: Path) -> None:
    whole = write_world(tmp_path / "a")
    (whole / "images" / "train3.jpg").unlink()
    with pytest.raises(NamepinError, match=r"E120.*train3\.jpg"):
        train(a_recipe(whole, weights, tmp_path / "out"))
    with pytest.raises(NamepinError, match=r"E139.*one class only"):
        train(a_recipe(write_world(tmp_path / "b", groundable=False), weights, tmp_path / "out"))
    empty = write_world(tmp_path / "c")
    (empty / "txt" / "dev.txt").write_text("")
    with pytest.raises(NamepinError, match="E139"):
        train(a_recipe(empty, weights, tmp_path / "out"))
    strange = write_world(tmp_path / "d")
    (strange / "txt" / "train.txt").write_text("IMGID:train0\nada\tB-PET\n")
    with pytest.raises(NamepinError, match=r"PET"):
        train(a_recipe(strange, weights, tmp_path / "out"))
    damaged = write_world(tmp_path / "e")
    (damaged / "images" / "train1.jpg").write_bytes(b"no picture")
    with pytest.raises(NamepinError, match=r"E123.*train1\.jpg|train1\.jpg"):
        train(a_recipe(damaged, weights, tmp_path / "out"))
    assert not (tmp_path / "out" / "weights").exists()


def test_matcher_negatives_pair_pictures_with_other_names(world: Path, weights: Path, tmp_path: Path) -> None:
    import random

    task = MatcherTask(a_recipe(world, weights, tmp_path, negatives=1.0))
    rows = list(task.rows(random.Random(3)))
    assert len(rows) == 2 * len(task.train)
    added = [row for row in rows if row not in task.train]
    names = {row.image: row.query.text for row in task.train}
    assert len(added) == len(task.train) and not any(row.groundable for row in added)
    assert all(row.query.text != names[row.image] for row in added)
    where = [row.image for row in rows]
    assert sum(one != other for one, other in pairwise(where)) == len(set(where)) - 1, "a picture's rows are together"


def test_trainer_in_two_processes_takes_same_steps(world: Path, weights: Path, tmp_path: Path) -> None:
    """Shared batches, uneven ones too, and a net that is spread over both (FSDP): all as in one process."""
    train(a_recipe(world, weights, tmp_path / "one", epochs=2, batch_size=3))
    process = Forked(two_processes.main, "matcher", str(world), str(weights), tmp_path)
    out, said = process.communicate()
    assert process.wait() == 0, said.decode()[-3000:]
    assert out.count(b"weights: ") == 2, "of two processes one speaks"
    wanted = torch.load(tmp_path / "one" / CHECKPOINT, weights_only=True)
    for name in ("ddp", "fsdp"):
        found = torch.load(tmp_path / name / CHECKPOINT, weights_only=True)
        for one, two in zip(wanted["history"], found["history"], strict=True):
            assert two == pytest.approx(one, rel=1e-3)
        for key, value in wanted["optimiser"]["state"].items():
            assert torch.allclose(found["optimiser"]["state"][key]["exp_avg"], value["exp_avg"], rtol=1e-2, atol=1e-5)
        saved, whole = (load_file(tmp_path / run / "weights" / "model.safetensors") for run in (name, "one"))
        assert {key: value.shape for key, value in saved.items()} == {key: value.shape for key, value in whole.items()}
        # AdamW steps by a gradient's sign where the gradient is next to nothing.
        assert max(float((saved[key] - value).abs().max()) for key, value in whole.items()) < 2e-3
        assert BlipMatcher(BlipMatcherConfig(blip=BlipConfig(weights=str(tmp_path / name / "weights"))))


@pytest.mark.parametrize("name", ["ddp", "fsdp", "fsdp_hosts"])
def test_accelerate_configs_equal_fsdp_settings(name: str) -> None:
    file = ROOT / "finetune" / "accelerate" / f"{name}.yaml"
    config = load_config_from_file(str(file))
    assert config.distributed_type == (DistributedType.MULTI_GPU if name == "ddp" else DistributedType.FSDP)
    if name != "ddp":
        # As `accelerate launch` hands them on, and as they were tried.
        told = {key.upper(): str(value) for key, value in config.fsdp_config.items()}
        assert {key: told[key].lower() for key in FSDP if key in told} == {
            key: value.lower() for key, value in FSDP.items() if key != "ACCELERATE_USE_FSDP"
        }


def test_set_up_fsdp_with_version_1_raises_e203() -> None:
    asked = SimpleNamespace(
        distributed_type=DistributedType.FSDP,
        num_processes=1,
        state=SimpleNamespace(fsdp_plugin=SimpleNamespace(fsdp_version=1)),
    )
    with pytest.raises(NamepinError, match=r"E203.*first version"):
        set_up_fsdp(asked)  # type: ignore[arg-type]
