"""The matcher on BLIP-2 and LLaVA: they learn which mentions are in their picture, and the tools answer so."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from namepin.finetune.data.rows import MentionRow
from namepin.finetune.loop.run_folder import CHECKPOINT
from namepin.finetune.matcher import Blip2MatcherTask, LlavaMatcherTask, train
from namepin.finetune.recipes.matcher import RECIPES, MatcherTraining
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import MatchRequest, TraceQuery, TraceRequest
from namepin.tools.loading.adapters import read_adapter_manifest
from namepin.tools.matcher.blip2 import Blip2Matcher
from namepin.tools.matcher.config import (
    Blip2Config,
    Blip2MatcherConfig,
    LlavaConfig,
    LlavaMatcherConfig,
    LlavaTracerConfig,
)
from namepin.tools.matcher.llava import LlavaMatcher, LlavaTracer
from namepin.tools.media import Media
from support import tiny_features
from support.tiny_world import write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def a_recipe(world: Path, weights: Path, out: Path, backend: str, **changes: Any) -> MatcherTraining:
    given: dict[str, Any] = {"epochs": 12, "lr": 3e-3, "batch_size": 4, "warmup": 0.0, "patience": 20, "cpu": True}
    if backend == "llava":
        given |= {"rank": 8, "alpha": 64, "dropout": 0.0, "dtype": "float32", "lr": 1e-2}
    return RECIPES[backend](root=str(world), weights=str(weights), out=str(out), **(given | changes))


def scores(tool: Any, rows: tuple[MentionRow, ...]) -> list[float]:
    found = []
    for row in rows:
        loaded = load_image(row.image)
        request = MatchRequest(image=loaded.ref, text=row.text, queries=(row.query,))
        found.append(tool.run([request], Media(images={loaded.ref.sha256: loaded.image}))[0].matches[0].score)
    return found


def blip2(weights: Path, trained: Path | None) -> Blip2Matcher:
    return Blip2Matcher(Blip2MatcherConfig(blip2=Blip2Config(weights=str(trained or weights))))


def llava(weights: Path, trained: Path | None) -> LlavaMatcher:
    adapter = str(trained) if trained else None
    return LlavaMatcher(LlavaMatcherConfig(llava=LlavaConfig(weights=str(weights), adapter=adapter, dtype="float32")))


TOOLS: dict[str, Callable[[Path, Path | None], Any]] = {"blip2": blip2, "llava": llava}
SAVE = {"blip2": tiny_features.save_blip2, "llava": tiny_features.save_llava}
TASKS: dict[str, Any] = {"blip2": Blip2MatcherTask, "llava": LlavaMatcherTask}


@pytest.mark.parametrize("backend", TOOLS)
def test_matcher_training_of_each_backend_learns_and_tool_agrees(world: Path, tmp_path: Path, backend: str) -> None:
    weights = SAVE[backend](tmp_path / "base")
    recipe = a_recipe(world, weights, tmp_path / "run", backend)
    task = TASKS[backend](recipe)
    learnt = {name for name, value in task.net.named_parameters() if value.requires_grad}
    assert learnt and not any("vision" in name for name in learnt), "the eyes stay as they are"
    assert backend != "llava" or all(".lora_" in name for name in learnt)
    report = train(recipe)
    history = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["history"]
    assert history[-1]["loss"] < 0.3 * history[0]["loss"] and report["accuracy"] == 1.0
    before, after = (scores(TOOLS[backend](weights, trained), task.dev) for trained in (None, Path(report["weights"])))
    assert [score > 0.5 for score in after] == [row.groundable for row in task.dev]
    assert [score > 0.5 for score in before] != [row.groundable for row in task.dev]


def test_llava_matcher_adapter_with_other_base_raises_e219(world: Path, tmp_path: Path) -> None:
    weights = tiny_features.save_llava(tmp_path / "base")
    report = train(a_recipe(world, weights, tmp_path / "run", "llava", epochs=1))
    adapter = Path(report["weights"])
    assert read_adapter_manifest(adapter).task == "match"
    plain, tuned = llava(weights, None), llava(weights, adapter)
    assert plain.fingerprint != tuned.fingerprint
    tracer = LlavaTracer(LlavaTracerConfig(llava=tuned.config.llava))
    assert tracer.model is tuned.model, "both tools share the tuned weights"
    loaded, query = (
        load_image(world / "images" / "dev0.jpg"),
        TASKS["llava"](a_recipe(world, weights, tmp_path / "run", "llava")).dev[0].query,
    )
    traced = tracer.run(
        [TraceRequest(image=loaded.ref, queries=(TraceQuery(query=query),))],
        Media(images={loaded.ref.sha256: loaded.image}),
    )
    assert len(traced[0].traces) == 1
    other = tiny_features.llava_net()
    with torch.no_grad():
        next(iter(other.parameters())).add_(1)
    other.save_pretrained(tmp_path / "other")
    tiny_features.llava_tokenizer().save_pretrained(tmp_path / "other")
    with pytest.raises(NamepinError, match=r"E219.*other weights"):
        llava(tmp_path / "other", adapter)
    with pytest.raises(NamepinError, match="E210"):
        llava(weights, tmp_path / "nowhere")


def test_llava_matcher_accumulation_and_checkpointing_give_equal_loss(world: Path, tmp_path: Path) -> None:
    weights = tiny_features.save_llava(tmp_path / "base")
    changes: dict[str, Any] = {"epochs": 1, "weight_decay": 0.0}
    whole, parts, twice = (
        train(a_recipe(world, weights, tmp_path / name, "llava", **changes, **more))
        for name, more in (("whole", {}), ("parts", {"accumulate": 4}), ("twice", {"gradient_checkpointing": True}))
    )
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-3)
    assert twice["loss"] == pytest.approx(whole["loss"], rel=1e-5)
