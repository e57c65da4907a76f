"""The fusion encoder's recipe on a tiny UMT: names are learnt, and similar posts are found with what was learnt."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import ResNetConfig, ResNetModel

from namepin.finetune.fusion import UmtTask, train
from namepin.finetune.recipes.fusion import UmtRecipe
from namepin.tools.errors import NamepinError
from namepin.tools.examples.features import load_encoder_of
from support.tiny_encoders import save_tiny_bert
from support.tiny_world import write_world


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
    ResNetModel(ResNetConfig(**sizes)).save_pretrained(folder / "resnet")
    return {"text": str(save_tiny_bert(folder / "bert")), "vision": str(folder / "resnet")}


def a_recipe(world: Path, parts: dict[str, str], out: Path, **changes: Any) -> UmtRecipe:
    given: dict[str, Any] = {
        "epochs": 12, "lr": 5e-3, "batch_size": 4, "patience": 12, "warmup": 0.0, "cpu": True, "image_size": 64,
    }  # fmt: skip
    return UmtRecipe(root=str(world), out=str(out), **(given | parts | changes))


def test_fusion_training_learns_and_encoder_loads_weights(parts: dict[str, str], tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    report = train(a_recipe(world, parts, tmp_path / "run"))
    assert report["f1"] == 1.0
    encoder = load_encoder_of("umt", report["weights"], None, torch.device("cpu"))
    features = encoder.encode(["ada runs", "bob runs"], [None, None])
    assert features.shape[0] == 2 and features.isfinite().all() and not torch.equal(features[0], features[1])


PERSON = {"label": "PER", "token_span": [0, 1]}


def write_jsonl(root: Path, **splits: list[dict[str, Any]]) -> None:
    for name, rows in splits.items():
        (root / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_fusion_batch_of_long_posts_without_picture_has_finite_loss(parts: dict[str, str], tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    first = {"id": "a", "tokens": ["ada", *(f"w{n}" for n in range(600))], "entities": [PERSON]}
    second = {"id": "b", "tokens": ["x" * 900], "image": "images/train1.jpg", "entities": [PERSON]}
    write_jsonl(world, train=[first, second], dev=[second])
    task = UmtTask(a_recipe(world, parts, tmp_path / "run", pieces=32, dataset="jsonl"))
    batch = task.collate(task.train)
    assert batch["ids"].shape[1] <= 32 and batch["tags"][0, 0] == 1
    assert not batch["pixels"][0].any() and batch["pixels"][1].any()
    assert int(batch["word_mask"].sum(1).min()) >= 1
    assert task.loss(task.net, batch).isfinite()


def test_fusion_training_without_mention_raises_e139(parts: dict[str, str], tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    (world / "txt" / "dev.txt").write_text("IMGID:dev0\nruns\tO\n")
    with pytest.raises(NamepinError, match=r"E139.*no mention in dev.*dev\.txt"):
        train(a_recipe(world, parts, tmp_path / "run"))


def test_fusion_training_with_missing_picture_raises_e120(parts: dict[str, str], tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    (world / "images" / "dev2.jpg").unlink()
    with pytest.raises(NamepinError, match=r"E120.*dev2\.jpg.*dev\.txt:10"):
        UmtTask(a_recipe(world, parts, tmp_path / "run"))


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"id": "a", "text": "ada runs", "entities": [{"label": "PER", "start": 0, "end": 3}]}, "has no tokens"),
        ({"tokens": ["ada", "runs"], "entities": [{"label": "PER", "start": 1, "end": 3}]}, "'da' is not made of"),
        (
            {"tokens": ["ada", "runs"], "entities": [{"label": "PER", "start": 0, "end": 3, "token_span": [1, 2]}]},
            "'ada' is not made of",
        ),
    ],
)
def test_fusion_training_with_row_without_token_spans_raises_e106(
    parts: dict[str, str], tmp_path: Path, row: dict[str, Any], what: str
) -> None:
    good = {"id": "good", "tokens": ["ada"], "entities": [PERSON]}
    write_jsonl(tmp_path, train=[good, {"id": "b", **row}], dev=[good])
    with pytest.raises(NamepinError, match=rf"E106.*{what}.*train\.jsonl:2"):
        UmtTask(a_recipe(tmp_path, parts, tmp_path / "run", dataset="jsonl"))


def test_fusion_limit_takes_first_posts(parts: dict[str, str], tmp_path: Path) -> None:
    task = UmtTask(a_recipe(write_world(tmp_path / "world"), parts, tmp_path / "run", limit=3))
    assert [gold.post.id for gold in task.train] == ["train0", "train1", "train2"] and len(task.dev) > 3
