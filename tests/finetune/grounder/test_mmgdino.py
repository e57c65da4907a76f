"""The grounder's recipe on a tiny MM-Grounding-DINO: LoRA moves its boxes, and the tool loads the adapter."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import PartialState
from PIL import Image
from transformers import MMGroundingDinoForObjectDetection

from namepin.finetune.grounder.mmgdino import MmGroundingDinoTask, centre_box, referring
from namepin.finetune.grounder.ofa import train
from namepin.finetune.loop.run_folder import CHECKPOINT
from namepin.finetune.recipes.grounder import MmGroundingDinoRecipe
from namepin.tools.geometry import box_iou
from namepin.tools.grounder.config import MmGroundingDinoConfig
from namepin.tools.grounder.mmgdino import MmGroundingDinoGrounder
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import GroundRequest
from namepin.tools.media import Media
from support import tiny_grounders
from support.tiny_world import write_world

DINO: dict[str, Any] = {"short_side": 48, "long_side": 48, "phrase": "entity"}


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn as transformers draws it: weights of mere noise propose boxes that cannot be moved to anything."""
    torch.manual_seed(1)
    net = MMGroundingDinoForObjectDetection(tiny_grounders.tiny_mmgdino().config)
    folder = tmp_path_factory.mktemp("mmgdino")
    net.save_pretrained(folder)
    tiny_grounders.bert_words().save_pretrained(folder)
    return folder


def a_dino_recipe(root: Path, weights: Path, out: Path, **changes: Any) -> MmGroundingDinoRecipe:
    given: dict[str, Any] = {
        "root": str(root), "weights": str(weights), "out": str(out), "epochs": 15, "lr": 1e-2, "batch_size": 6,
        "patience": 20, "warmup": 0.05, "cpu": True, "rank": 8, "alpha": 32, "dropout": 0.0, **DINO,
    }  # fmt: skip
    return MmGroundingDinoRecipe(**given | changes)


def test_mmgdino_training_with_lora_moves_boxes_and_tool_reproduces_them(detector: Path, tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=4)
    recipe = a_dino_recipe(world, detector, tmp_path / "run")
    task = MmGroundingDinoTask(recipe)
    learnt = [name for name, value in task.net.named_parameters() if value.requires_grad]
    assert any(".lora_" in name for name in learnt) and not any("backbone" in name for name in learnt)
    assert all(".lora_" in name or "_embed." in name for name in learnt)
    with torch.inference_mode():
        before = task.score()
    report = train(recipe)
    rows = torch.load(tmp_path / "run" / CHECKPOINT, weights_only=True)["history"]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert before["prec@0.5"] == 0.0 and report["prec@0.5"] >= 0.5
    tool = MmGroundingDinoGrounder(
        MmGroundingDinoConfig(weights=str(detector), adapter=report["weights"], threshold=0.0, top=1, **DINO)
    )
    overlaps = []
    for row in task.dev:
        loaded = load_image(row.image)
        request = GroundRequest(image=loaded.ref, text=row.text, queries=(referring(row),))
        best = tool.run([request], Media(images={loaded.ref.sha256: loaded.image}))[0].groundings[0].boxes[0]
        overlaps.append(max(box_iou(best.box, gold) for gold in row.boxes))
    assert sum(overlaps) / len(overlaps) == pytest.approx(report["iou"], abs=1e-5)


def test_mmgdino_loss_of_batch_equals_mean_of_row_losses(detector: Path, tmp_path: Path) -> None:
    """Pictures of different shapes and phrases of different lengths: the batch's loss is the mean of its rows'."""
    world = write_world(tmp_path / "world", posts=8)
    Image.open(world / "images" / "train2.jpg").resize((48, 30)).save(world / "images" / "train2.jpg")
    xml = world / "xml" / "train2.xml"
    xml.write_text(xml.read_text().replace("<height>48<", "<height>30<"))
    task = MmGroundingDinoTask(a_dino_recipe(world, detector, tmp_path / "run"))
    rows = task.train[:4]
    PartialState(cpu=True)
    with torch.no_grad():
        alone = [float(task.loss(task.net, task.collate([row]))) for row in rows]
        same = [row for row in rows if load_image(row.image).image.size == (48, 48)]
        together = float(task.loss(task.net, task.collate(same)))
        padded = float(task.loss(task.net, task.collate(rows)))
    assert len(same) == 3 and max(alone) - min(alone) > 0.05, "losses that differ from row to row"
    wanted = [loss for row, loss in zip(rows, alone, strict=True) if row in same]
    assert together == pytest.approx(sum(wanted) / 3, rel=1e-4)
    assert padded == pytest.approx(sum(alone) / 4, rel=0.1), "what is beside a picture is hardly seen"


def test_centre_box_returns_clipped_shares_of_picture() -> None:
    assert centre_box((10.0, 20.0, 30.0, 60.0), (100, 80)) == pytest.approx((0.2, 0.5, 0.2, 0.5))
    assert centre_box((-10.0, 0.0, 50.0, 90.0), (100, 80)) == pytest.approx((0.25, 0.5, 0.5, 1.0))


def test_mmgdino_limit_takes_first_mentions(detector: Path, tmp_path: Path) -> None:
    task = MmGroundingDinoTask(a_dino_recipe(write_world(tmp_path / "world"), detector, tmp_path / "run", limit=3))
    assert {Path(row.image).stem for row in task.train} <= {"train0", "train1", "train2"}
    assert len(task.dev) > 2
