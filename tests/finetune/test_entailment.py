"""Entailment's recipes on tiny nets: each learns, and the tool loads the weights and gives the same answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from namepin.finetune.data.mentions import read_split
from namepin.finetune.entailment import BlipEntailmentTask, train
from namepin.finetune.recipes.entailment import RECIPES, BlipEntailmentRecipe, EntailmentTraining
from namepin.tools.entailment.albef import AlbefEntailment
from namepin.tools.entailment.blip import BlipEntailment
from namepin.tools.entailment.config import AlbefEntailmentConfig, BlipEntailmentConfig, OfaEntailmentConfig
from namepin.tools.entailment.ofa import OfaEntailment
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import EntailRequest, ReferringQuery
from namepin.tools.media import Media
from namepin.tools.models.config import BlipConfig, OfaConfig
from support import tiny_albef, tiny_blip, tiny_ofa
from support.tiny_world import NAMES, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_world(tmp_path_factory.mktemp("world"))
    for split in ("train", "dev"):
        write_lines(root / f"{split}-captions.jsonl", [{"id": f"{split}{n}", "caption": "a patch"} for n in range(8)])
        for model in ("one", "two"):
            rows = [
                {"id": f"{split}{n}", "text": name, "expansion": f"{model} red runner"} for n, name in enumerate(NAMES)
            ]
            write_lines(root / f"{split}-{model}.jsonl", rows)
    return root


def write_lines(file: Path, rows: list[dict[str, str]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def a_recipe(world: Path, tmp_path: Path, backend: str, **changes: Any) -> EntailmentTraining:
    given: dict[str, Any] = {
        "root": str(world), "out": str(tmp_path / "run"), "epochs": 14, "lr": 1e-3, "batch_size": 4, "patience": 20,
        "warmup": 0.0, "cpu": True, "expansions": (str(world / "train-one.jsonl"),),
        "dev_expansions": str(world / "dev-one.jsonl"),
    }  # fmt: skip
    if backend == "ofa":
        given["weights"] = str(tiny_ofa.save_folder(tiny_ofa.tiny_net(), tmp_path / "ofa"))
        given |= {"image_size": tiny_ofa.IMAGE_SIZE, "dropout": 0.0, "drop_path": 0.0}
        given |= {
            f"{part}captions": str(world / f"{split}-captions.jsonl")
            for part, split in (("", "train"), ("dev_", "dev"))
        }
    elif backend == "albef":
        given["weights"], given["tokenizer"] = map(str, tiny_albef.save(tiny_albef.tiny_net(), tmp_path))
        given["image_size"] = 64
    else:
        given["weights"] = str(tiny_blip.save_folder(tiny_blip.tiny_net(), tmp_path / "blip"))
    return RECIPES[backend](**given | changes)


def the_tool(backend: str, weights: str) -> Any:
    if backend == "ofa":
        return OfaEntailment(OfaEntailmentConfig(ofa=OfaConfig(weights=weights), image_size=tiny_ofa.IMAGE_SIZE))
    if backend == "albef":
        return AlbefEntailment(AlbefEntailmentConfig(weights=weights, image_size=64))
    return BlipEntailment(BlipEntailmentConfig(blip=BlipConfig(weights=weights)))


@pytest.mark.parametrize("backend", RECIPES)
def test_entailment_training_learns_and_tool_agrees(world: Path, tmp_path: Path, backend: str) -> None:
    recipe = a_recipe(world, tmp_path, backend)
    report = train(recipe)
    assert report["f1"] == 1.0
    tool = the_tool(backend, report["weights"])
    rows = read_split(recipe, "dev", expansions=[str(world / "dev-one.jsonl")]).rows
    for row in rows:
        loaded = load_image(row.image)
        query = ReferringQuery(text=row.query.text, label="PER", category="PER", expression=row.expression)
        request = EntailRequest(image=loaded.ref, text=row.text, caption="a patch", queries=(query,))
        answer = tool.run([request], Media(images={loaded.ref.sha256: loaded.image}))[0].entailments[0]
        assert (answer.label == "entailment") == row.groundable


def test_entailment_expansions_of_several_models_are_mixed_in_train_only(world: Path, tmp_path: Path) -> None:
    files = [str(world / f"train-{model}.jsonl") for model in ("one", "two")]
    recipe = a_recipe(world, tmp_path, "blip", expansions=tuple(files), epochs=1)
    mixed = read_split(recipe, "train", expansions=files)
    assert [row.expression for row in mixed.rows if row.post == "train0"] == [
        "ada (PER) – one red runner", "ada (PER) – two red runner",
    ]  # fmt: skip
    assert {f"train {Path(file).name}" for file in files} < set(mixed.data)
    assert len(read_split(recipe, "dev").rows) == 8
    assert all(row.expression == f"{row.query.text} (PER)" for row in read_split(recipe, "dev").rows)


def test_entailment_training_from_pretrained_albef_has_two_classes(world: Path, tmp_path: Path) -> None:
    import torch

    recipe: Any = a_recipe(world, tmp_path, "albef", epochs=1)
    state = {"model": tiny_albef.pre_trained_state(tiny_albef.tiny_net())}
    torch.save(state, tmp_path / "ALBEF.pth")
    report = train(
        a_recipe(world, tmp_path, "albef", epochs=1, weights=str(tmp_path / "ALBEF.pth"), tokenizer=recipe.tokenizer)
    )
    assert the_tool("albef", report["weights"]).model.net.sizes.classes == 2


def test_entailment_training_with_invalid_expansions_raises_e134_or_e130(world: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"id": "train0", "text": "ada", "expansion": "x"}\n{"id": "train1"}\n')
    with pytest.raises(NamepinError, match=r"E134.*bad\.jsonl:2"):
        train(a_recipe(world, tmp_path, "blip", expansions=(str(bad),)))
    with pytest.raises(NamepinError, match="E130"):
        train(a_recipe(world, tmp_path, "blip", expansions=(str(tmp_path / "nowhere"),)))


def test_entailment_limit_takes_first_mentions(world: Path, tmp_path: Path) -> None:
    recipes = (a_recipe(world, tmp_path, "blip", limit=limit) for limit in (0, 3))
    whole, part = (BlipEntailmentTask(recipe) for recipe in recipes if isinstance(recipe, BlipEntailmentRecipe))
    assert part.train == whole.train[:3] and part.dev == whole.dev and len(whole.train) > 3
