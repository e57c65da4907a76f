"""The tagger's targets, its loss and its gradients, on posts made here, with a tiny encoder."""

import random
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from namepin.finetune.loop.trainer import Run, _move
from namepin.finetune.tagger.data import Batcher, Example, Span
from namepin.finetune.tagger.steps import tagger_loss
from namepin.finetune.tagger.train import TaggerTask, train
from namepin.tools.errors import NamepinError
from namepin.tools.nets.crf import FORBIDDEN
from namepin.tools.nets.dual_tagger import DualTaggerNet, Emissions
from namepin.tools.tagger.adapter import TaggerSpec
from support.tagger_recipe import recipe


def gradients(root: Path, out: Path, **changes: object) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of one batch, and its gradients."""
    settings = recipe(root, out, **changes)
    task = TaggerTask(settings)
    run = Run(settings, task)
    rows = task._in_batches([(example, True) for example in task.train[:8]], random.Random(0))
    run.objective.train()
    total = 0.0
    for weight, batch in next(run._prepare([rows])):
        loss = run.objective(batch) * weight
        loss.backward()
        total += float(loss.detach())
    return total, {name: p.grad for name, p in task.net.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("changes", [{"accumulate": 3}, {"gradient_checkpointing": True}, {"workers": 1}])
def test_tagger_gradients_with_other_batching_stay_equal(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object]
) -> None:
    monkeypatch.setattr(torch.nn.functional, "dropout", lambda x, *given, **named: x)
    value, expected = gradients(root, tmp_path)
    again, found = gradients(root, tmp_path, **changes)
    assert again == pytest.approx(value, rel=1e-5) and found.keys() == expected.keys()
    assert any(name.startswith("encoder.encoder.layer.0.") for name in found)
    assert all(torch.allclose(expected[name], found[name], atol=1e-5) for name in expected)


def test_tagger_loss_reads_moved_batch_only(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = TaggerTask(recipe(root, tmp_path, hide=0.1))
    batch = task.collate(list(task.rows(random.Random(1)))[:4])
    moved = {key: _move(value, torch.device("meta")) for key, value in batch.items()}
    words = torch.zeros(*batch["inputs"].word_mask.shape, task.net.coarse.linear.in_features, device="meta")
    # The device `meta` refuses tensors of any other. transformers asks for numbers, which it lacks.
    monkeypatch.setattr(task.net, "encode", lambda batch: words)
    monkeypatch.setattr(torch, "autocast", lambda *given, **named: nullcontext())
    task.net.to("meta")
    assert task.loss(task.net, moved).device.type == "meta"


def test_tagger_in_bf16_computes_paths_in_float32(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    types: list[tuple[torch.dtype, bool]] = []
    paths = DualTaggerNet.paths

    def watched(net: DualTaggerNet, words: torch.Tensor) -> Emissions:
        types.append((words.dtype, torch.is_autocast_enabled("cpu")))
        return paths(net, words)

    monkeypatch.setattr(DualTaggerNet, "paths", watched)
    report = train(recipe(root, tmp_path, precision="bf16", epochs=1, limit=8, knowledge=0.0))
    assert set(types) == {(torch.float32, False)} and 0 <= report["dev_f1"] <= 1


def test_tagger_with_nan_gradient_raises_e220_and_saves_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = TaggerTask.loss

    def broken(self: TaggerTask, net: Any, batch: Any) -> torch.Tensor:
        first = next(p for p in net.parameters() if p.requires_grad)
        return loss(self, net, batch) + 0 * torch.sqrt(first - first).sum()  # 0 has no slope there

    monkeypatch.setattr(TaggerTask, "loss", broken)
    with pytest.raises(NamepinError, match=r"E220: the gradient's norm is nan at step 1"):
        train(recipe(root, tmp_path, epochs=1))
    assert not (tmp_path / "adapter").exists()


def batcher(root: Path, out: Path) -> Batcher:
    return TaggerTask(recipe(root, out)).batcher


def test_tagger_with_nan_loss_raises_e220(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(recipe(root, tmp_path, epochs=1))
    whole = (tmp_path / "checkpoint.pt").read_bytes()
    monkeypatch.setattr(
        "namepin.finetune.tagger.train.tagger_loss", lambda *given, **named: tagger_loss(*given, **named) * torch.nan
    )
    with pytest.raises(NamepinError, match=r"E220.*nan at step 1, of epoch 1"):
        train(recipe(root, tmp_path, epochs=1))
    assert (tmp_path / "checkpoint.pt").read_bytes() == whole
    (tmp_path / "checkpoint.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NamepinError, match="E211"):
        train(recipe(root, tmp_path, epochs=1), resume=True)


def test_batcher_targets_encode_known_and_unknown_fine_types(root: Path, tmp_path: Path) -> None:
    made = batcher(root, tmp_path)
    fine = made.fine
    known = Example("a", ("in", "New", "York"), (Span(1, 3, "LOC", {"city": 0.75, "state": 0.25}),))
    unknown = Example("b", ("Bo",), (Span(0, 1, "PER"),))
    _, targets = made.batch([(known, False), (unknown, False)])
    assert targets.coarse.tolist() == [[0, 3, 4], [1, 0, 0]]
    assert targets.fine is not None
    first, second = targets.fine[0, 1], targets.fine[0, 2]
    assert first[2 * fine["city"] + 1] == pytest.approx(np.log(0.75)) and first[2 * fine["city"] + 2] == FORBIDDEN
    assert second[2 * fine["city"] + 2] == 0 and second[2 * fine["country"] + 2] == FORBIDDEN
    allowed = {name for name, i in fine.items() if targets.fine[1, 0, 2 * i + 1] == 0}
    assert allowed == {name for name in fine if TaggerSpec().parents[name] == "PER"}
    assert targets.spans == [(0, 1, 3)] and targets.span_weights.sum() == pytest.approx(1)


def test_tagger_loss_of_unknown_fine_type_is_below_known_one(root: Path, tmp_path: Path) -> None:
    training = TaggerTask(recipe(root, tmp_path))
    losses = []
    for weights in ({}, {"city": 0.5, "country": 0.5}, {"city": 1.0}):
        batch, targets = training.batcher.batch([(Example("a", ("Rome",), (Span(0, 1, "LOC", weights),)), False)])
        training.net.eval()
        losses.append(tagger_loss(training.net, training.net(batch), batch.word_mask, targets, alpha=0.5, pooled=0.0))
    assert losses[0] < losses[2] and losses[1] < losses[2] + 1
