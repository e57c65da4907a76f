"""The segmenter's recipe on a tiny SAM: it learns to draw the patches, and touches nothing that it should not."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import SamModel

from namepin.finetune.recipes.segmenter import SamRecipe
from namepin.finetune.segmenter import SamTask, mask_loss, target_grid, train
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import SegmentRequest
from namepin.tools.media import Media
from namepin.tools.models.config import SamConfig
from namepin.tools.models.sam_checkpoint import load_sam
from namepin.tools.segmenter.config import SamSegmenterConfig
from namepin.tools.segmenter.sam import SamSegmenter
from namepin.tools.types import Mask
from support import tiny_sam
from support.tiny_world import SIZE, write_world


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sam")
    torch.manual_seed(0)
    net: Any = SamModel(tiny_sam.tiny_net().config)  # as training begins, not as noise
    net.save_pretrained(folder)
    return folder


def a_world(root: Path, posts: int = 8, size: tuple[int, int] = SIZE) -> Path:
    """The patches of `write_world` with a labelme polygon each."""
    from namepin.evals.datasets.voc import read_boxes

    write_world(root, posts)
    (root / "masks").mkdir()
    for file in (root / "xml").iterdir():
        shapes = []
        for name, boxes in read_boxes(file)[1].items():
            for left, top, right, bottom in boxes:
                points = [[left, top], [right, top], [right, bottom], [left, bottom]]
                shapes.append({"label": name, "points": points, "shape_type": "polygon", "group_id": None})
        said = {"shapes": shapes, "imageHeight": size[1], "imageWidth": size[0], "imagePath": f"{file.stem}.jpg"}
        (root / "masks" / f"{file.stem}.json").write_text(json.dumps(said))
    return root


def a_recipe(world: Path, weights: Path, out: Path, **changes: Any) -> SamRecipe:
    given: dict[str, Any] = {"epochs": 25, "lr": 3e-3, "batch_size": 4, "patience": 25, "warmup": 0.0, "cpu": True}
    return SamRecipe(root=str(world), weights=str(weights), out=str(out), **(given | changes))


def test_segmenter_training_learns_and_tool_segments_patch(weights: Path, tmp_path: Path) -> None:
    recipe = a_recipe(a_world(tmp_path / "world", posts=24), weights, tmp_path / "run", whole=True, epochs=20)
    before = SamTask(recipe).score()["iou"]
    report = train(recipe)
    assert report["iou"] > 0.75 > before + 0.2
    row = SamTask(recipe).dev[0]
    loaded = load_image(row.mention.image)
    request = SegmentRequest(image=loaded.ref, prompts=(tiny_sam.prompt(box=row.box),))
    tool = SamSegmenter(SamSegmenterConfig(sam=SamConfig(weights=report["weights"])))
    found = tool.run([request], Media(images={loaded.ref.sha256: loaded.image}))[0].segments[0]
    assert found.mask is not None
    said, gold = found.mask.to_array(), row.mask.to_array()
    assert (said & gold).sum() / (said | gold).sum() > 0.6


def test_segmenter_training_changes_mask_decoder_only(weights: Path, tmp_path: Path) -> None:
    report = train(a_recipe(a_world(tmp_path / "world"), weights, tmp_path / "run", epochs=1))
    old, new = (load_sam(Path(folder), "x").net.state_dict() for folder in (weights, report["weights"]))
    assert {key.split(".")[0] for key in old if not torch.equal(old[key], new[key])} == {"mask_decoder"}


def test_segmenter_training_with_masks_of_other_size_raises_e133(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match=r"E133.*(30x30|leaves|size)"):
        train(a_recipe(a_world(tmp_path / "world", size=(30, 30)), weights, tmp_path / "run"))


def test_segmenter_training_without_masks_raises_coded_error(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E1"):
        train(a_recipe(write_world(tmp_path / "world"), weights, tmp_path / "run"))


@settings(max_examples=25)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(0, 2**32 - 1))
def test_target_grid_area_equals_mask_share(width: int, height: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, top = int(rng.integers(width)), int(rng.integers(height))
    mask = np.zeros((height, width), bool)
    mask[top:, left:] = True
    from namepin.tools.models.sam import fit_size

    frame = fit_size((width, height), 256)
    square = target_grid(Mask.from_array(mask), frame, 256)
    assert square.shape == (64, 64)
    share = square.sum() * 16 / (frame[0] * frame[1])
    assert abs(float(share) - mask.mean()) < 0.15 + 16 / min(frame)


def test_mask_loss_is_lowest_for_right_mask() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:6, 2:6] = 1
    right, wrong, none = (mask * 2 - 1) * 20, (1 - mask * 2) * 20, torch.full_like(mask, -20)
    one = torch.ones(1, 1)
    of = {
        name: mask_loss(logits[:, None], one, mask)[0]
        for name, logits in (("right", right), ("wrong", wrong), ("none", none))
    }
    assert of["right"] < 1e-3 < of["none"] < of["wrong"]
    assert mask_loss(right[:, None], torch.zeros(1, 1), mask)[0] == pytest.approx(1.0, abs=1e-3)
    # Of several masks the best counts, and every predicted IoU.
    several = torch.stack([wrong, right, none], 1)
    assert mask_loss(several, torch.tensor([[0.0, 1.0, 0.0]]), mask)[0] < 1e-3
    assert mask_loss(several, torch.ones(1, 3), mask)[0] == pytest.approx(2 / 3, abs=1e-3)


def test_sam_task_points_lie_in_their_masks(weights: Path, tmp_path: Path) -> None:
    task = SamTask(a_recipe(a_world(tmp_path / "world"), weights, tmp_path / "run", points=0.5))
    rows = [row for seed in range(6) for row in task.rows(random.Random(seed))]
    points = [(row.point, row.mask.to_array()) for row in rows if row.point]
    assert 0 < len(points) < len(rows) and all(mask[y, x] for (x, y), mask in points)
    batch = task.collate(rows[:8])
    assert task.loss(task.net, batch).isfinite()
    corner = batch["points"][batch["by_point"]][0, 0, 0].tolist()
    first = next(row for row in rows[:8] if row.point)
    assert corner == pytest.approx([(at + 0.5) * 64 / 48 for at in first.point or ()])


def test_segmenter_limit_takes_first_mentions(weights: Path, tmp_path: Path) -> None:
    task = SamTask(a_recipe(a_world(tmp_path / "world"), weights, tmp_path / "run", limit=3))
    assert {Path(region.mention.image).stem for region in task.train} <= {"train0", "train1", "train2"}
    assert len({region.mention.image for region in task.dev}) > 2
