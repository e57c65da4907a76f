"""The grounder's recipe on a tiny OFA: it learns where the patch is, and the tool finds it there."""

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from namepin.finetune.data.mentions import jitter_box
from namepin.finetune.grounder.ofa import OfaGrounderTask, train
from namepin.finetune.recipes.grounder import OfaGrounderRecipe
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import box_iou
from namepin.tools.grounder.config import OfaGrounderConfig
from namepin.tools.grounder.ofa import OfaGrounder
from namepin.tools.images.load import load_image
from namepin.tools.interfaces import GroundRequest, ReferringQuery
from namepin.tools.media import Media
from namepin.tools.models.config import OfaConfig
from support import tiny_ofa
from support.tiny_world import write_world


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_ofa.save_folder(tiny_ofa.tiny_net(), tmp_path_factory.mktemp("ofa"))


def a_recipe(root: Path, weights: Path, out: Path, **changes: Any) -> OfaGrounderRecipe:
    given: dict[str, Any] = {
        "root": str(root), "weights": str(weights), "out": str(out), "image_size": tiny_ofa.IMAGE_SIZE, "epochs": 24,
        "lr": 3e-3, "batch_size": 4, "patience": 40, "warmup": 0.05, "cpu": True, "smoothing": 0.0,
        "dropout": 0.0, "drop_path": 0.0,
    }  # fmt: skip
    return OfaGrounderRecipe(**given | changes)


def test_ofa_grounder_training_learns_and_tool_finds_patch(weights: Path, tmp_path: Path) -> None:
    world = write_world(tmp_path / "world", posts=12)
    recipe = a_recipe(world, weights, tmp_path / "run")
    report = train(recipe)
    assert report["prec@0.5"] == 1.0
    tool = OfaGrounder(
        OfaGrounderConfig(ofa=OfaConfig(weights=report["weights"]), image_size=tiny_ofa.IMAGE_SIZE, beams=5)
    )
    for row in OfaGrounderTask(recipe).dev:
        loaded = load_image(row.image)
        query = ReferringQuery(text=row.query.text, label="PER", category="PER", expression=row.expression)
        request = GroundRequest(image=loaded.ref, text=row.text, queries=(query,))
        best = tool.run([request], Media(images={loaded.ref.sha256: loaded.image}))[0].groundings[0].boxes[0]
        assert box_iou(best.box, row.largest) >= 0.5


def test_ofa_grounder_target_of_several_boxes_is_largest(weights: Path, tmp_path: Path) -> None:
    world = write_world(tmp_path / "world")
    file = world / "xml" / "train0.xml"
    second = (
        "<object><name>ada</name><bndbox><xmin>0</xmin><ymin>0</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>"
    )
    file.write_text(file.read_text().replace("</annotation>", f"{second}</annotation>"))
    task = OfaGrounderTask(a_recipe(world, weights, tmp_path / "run"))
    row = next(row for row in task.train if row.post == "train0")
    assert len(row.boxes) == 2 and row.largest == (0.0, 0.0, 40.0, 40.0)
    targets = task.collate([row])["targets"][0].tolist()
    first = task.parts.vocabulary.first_bin
    assert [place - first for place in targets[:4]] == [0, 0, 832, 832] and targets[4] == 2


@settings(max_examples=50)
@given(st.floats(0, 400), st.floats(0, 400), st.floats(1, 400), st.floats(1, 400), st.floats(0, 0.49), st.integers())
def test_jitter_box_result_is_valid_and_near(x: float, y: float, w: float, h: float, most: float, seed: int) -> None:
    left, top, right, bottom = jitter_box((x, y, x + w, y + h), most, random.Random(seed))
    assert left < right and top < bottom
    slack = most + 1e-9
    assert abs(left - x) <= slack * w + 1e-9 and abs(bottom - y - h) <= slack * h + 1e-9


def test_ofa_grounder_training_without_box_or_with_other_size_raises(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match=r"E139.*has a box"):
        train(a_recipe(write_world(tmp_path / "none", groundable=False), weights, tmp_path / "run"))
    with pytest.raises(NamepinError, match=r"E217.*image_size"):
        train(a_recipe(write_world(tmp_path / "some"), weights, tmp_path / "run", image_size=512))


def test_ofa_grounder_limit_takes_first_mentions(weights: Path, tmp_path: Path) -> None:
    task = OfaGrounderTask(a_recipe(write_world(tmp_path / "world"), weights, tmp_path / "run", limit=3))
    assert {Path(row.image).stem for row in task.train} <= {"train0", "train1", "train2"}
    assert len(task.dev) > 2
