"""GRPO raises its mean reward over the supervised start, on eight posts."""

from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import pytest
import torch

from namepin.finetune.extractor.train import train
from namepin.finetune.sandbox.extractor import history_of
from support.tiny_extractor import a_recipe, save_model
from support.tiny_world import write_world


@pytest.fixture(autouse=True)
def flushed() -> Iterator[None]:
    """As in `namepin finetune`: new nets have many denormal numbers."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.slow
def test_grpo_raises_mean_reward_over_its_supervised_start(tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=8)
    drawn, sft, grpo = save_model(world, tmp_path / "drawn"), tmp_path / "sft", tmp_path / "grpo"
    train(
        a_recipe(
            "sft", world, drawn, sft, whole=True, lr=1e-2, epochs=26, shift=0.0, scale=0.0, patience=99, dev_posts=2
        )
    )
    settings = {"epochs": 40, "batch_size": 8, "answers": 8, "lr": 5e-3, "warmup": 0.0, "clip": 1.0, "alpha": 16}
    train(a_recipe("grpo", world, sft / "weights", grpo, seed=3, patience=99, dev_posts=2, **settings))
    rewards = [row["reward"] for row in history_of(grpo)]
    assert len(rewards) == 40 and mean(rewards[-8:]) > 1.05 * mean(rewards[:8])
