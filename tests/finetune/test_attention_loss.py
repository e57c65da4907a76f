"""The loss that draws BLIP's attention into the gold boxes."""

from pathlib import Path

import pytest
import torch

from namepin.finetune.matcher import MatcherTask, itm_logits
from namepin.finetune.recipes.matcher import MatcherRecipe
from support import tiny_blip
from support.tiny_world import write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def a_task(world: Path, folder: Path, attend: float) -> MatcherTask:
    weights = tiny_blip.save_folder(tiny_blip.tiny_net(), folder / "blip")
    return MatcherTask(MatcherRecipe(root=str(world), weights=str(weights), attend=attend))


def test_attention_regions_equal_patch_share_of_box(world: Path, tmp_path: Path) -> None:
    task = a_task(world, tmp_path, 1.0)
    regions = task.collate(list(task.train))["regions"]
    side = int(regions.shape[1] ** 0.5)
    for row, region in zip(task.train, regions, strict=True):
        if not row.boxes:
            assert not region.any()
            continue
        left, top, right, bottom = row.largest
        assert region.sum() == pytest.approx((right - left) * (bottom - top) / 48**2 * side**2, rel=1e-4)
        assert 0 <= region.min() and region.max() <= 1 + 1e-5
        middle = int((top + bottom) / 2 / 48 * side) * side + int((left + right) / 2 / 48 * side)
        assert region[middle] == region.max()


def test_attention_loss_training_moves_attention_into_boxes(world: Path, tmp_path: Path) -> None:
    task = a_task(world, tmp_path, 1.0)
    batch = task.collate(list(task.train))

    def outside() -> float:
        itm_logits(task.net, batch)
        return float(torch.as_tensor(task.parts.attention_loss(batch)).detach())

    before = outside()
    optimiser = torch.optim.Adam(task.net.parameters(), 3e-3)
    for _ in range(30):
        optimiser.zero_grad()
        loss = task.loss(task.net, batch)
        assert isinstance(loss, torch.Tensor)
        loss.backward()
        optimiser.step()
    assert outside() < 0.7 * before


def test_attention_loss_at_weight_zero_leaves_loss_unchanged(world: Path, tmp_path: Path) -> None:
    plain, drawn = a_task(world, tmp_path / "a", 0.0), a_task(world, tmp_path / "b", 1.0)
    assert "regions" not in plain.collate(list(plain.train)) and plain.parts.attention_loss({}) == 0.0
    rows = [row for row in plain.train if not row.boxes]
    losses = [float(task.loss(task.net.eval(), task.collate(rows)).detach()) for task in (plain, drawn)]
    assert losses[0] == losses[1], "mentions that are not in the picture have no place to look at"
