"""Curves: TensorBoard's files hold losses, rates and dev scores; without the package a run says so."""

from pathlib import Path
from typing import Any

import pytest

from namepin.finetune.loop import trackers
from namepin.finetune.loop import trainer as training
from namepin.finetune.matcher import train
from namepin.finetune.recipes.grounder import OfaGrounderRecipe
from namepin.finetune.recipes.matcher import MatcherRecipe
from namepin.tools.errors import NamepinError
from support.tiny_blip import save_folder, tiny_net
from support.tiny_world import write_world


def a_recipe(folder: Path, **changes: Any) -> MatcherRecipe:
    weights = save_folder(tiny_net(image_size=32), folder / "blip")
    world, out = write_world(folder / "world"), str(folder / "run")
    given: dict[str, Any] = {"epochs": 2, "lr": 1e-3, "batch_size": 4, "cpu": True, "report_to": "tensorboard"}
    return MatcherRecipe(root=str(world), weights=str(weights), out=out, **given | changes)


def test_tensorboard_logs_contain_losses_and_dev_scores(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install '.[curves]'")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util import tensor_util

    report = train(a_recipe(tmp_path))
    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted((tmp_path / "run" / "logs").rglob("events.out.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.HasField("tensor") and not value.tag.startswith("_hparams_"):
                    number = float(tensor_util.make_ndarray(value.tensor))
                    found.setdefault(value.tag, []).append((event.step, number))
    assert [step for step, _ in found["loss"]] == [1, 2, 3, 4] and set(found) >= {"lr", "dev/f1", "dev/accuracy"}
    assert [step for step, _ in found["dev/f1"]] == [2, 4]
    assert max(score for _, score in found["dev/f1"]) == pytest.approx(report["f1"], abs=1e-5)


def test_training_with_curves_but_no_tensorboard_raises_e301(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(NamepinError, match=r"E301.*tensorboard"):
        train(a_recipe(tmp_path))


def test_plain_settings_contain_numbers_and_strings_only() -> None:
    told = training.plain_settings(OfaGrounderRecipe(root="x", expansions=("a.jsonl", "b.jsonl")))
    assert told["expansions"] == '["a.jsonl", "b.jsonl"]' and told["epochs"] == 10
    assert all(isinstance(value, int | float | str) for value in told.values())
