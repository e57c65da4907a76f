"""Described regions: read exactly, refused where they are wrong, and true of the sandbox's pictures."""

import json
import random
from pathlib import Path

import pytest
from PIL import ExifTags, Image

pytest.importorskip("accelerate", reason="needs the gpu extra")

from namepin.finetune.data.described_regions import read_regions
from namepin.finetune.data.mentions import read_split
from namepin.finetune.recipes.entailment import BlipEntailmentRecipe
from namepin.finetune.sandbox.write import write_world
from namepin.finetune.segmenter import mask_rows_of
from namepin.tools.errors import NamepinError


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("regions") / "world"
    write_world(root, {"train": 120, "dev": 12, "test": 2}, 3, quiet=True)
    return root


def test_sandbox_regions_equal_ground_truth_boxes(world: Path) -> None:
    """By the truth: what looks so has a box, exactly its own; of what has none, nothing looks so."""
    truth = {
        row["id"]: row["objects"] for row in map(json.loads, (world / "truth/train.jsonl").read_text().splitlines())
    }
    split = read_regions(world, "train")
    colours = 0
    for row in split.rows:
        objects = truth[row.post]
        said = row.expression
        shown = {
            tuple(map(float, one["box"]))
            for one in objects
            if said in (one["shows"], one["fine"].replace("_", " "), _without_colours(one["shows"]))
        }
        assert set(row.boxes) == shown, (row.post, said)
        assert [region.box for region in mask_rows_of(row)] == list(row.boxes)
        colours += not row.boxes and any(one["shows"].split()[-1] == said.split()[-1] for one in objects)
    right = sum(row.groundable for row in split.rows)
    assert 0.4 < right / len(split.rows) < 0.6 and colours > 50
    things = sum(map(len, truth.values()))
    assert right > things, "things are described by their looks, and by their kind"


def _without_colours(shows: str) -> str:
    words = shows.split()
    return f"a person with a {words[-1]}" if words[1] == "person" else f"a {words[-1]}"


def test_read_split_of_regions_dataset_equals_read_regions(world: Path) -> None:
    recipe = BlipEntailmentRecipe(root=str(world), dataset="regions", out="x")
    split = read_split(recipe, "dev")
    assert split.rows == read_regions(world, "dev").rows and list(split.data) == ["regions dev"]
    row = random.Random(1).choice([row for row in split.rows if row.groundable])
    assert row.expression == row.query.text and row.masks and row.image.endswith(f"{row.post}.jpg")


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"id": "one", "regions": [{"text": "", "boxes": []}]}',
     '{"id": "one", "regions": [{"text": "x", "boxes": [[1, 2, 3]]}]}', '{"id": "one", "regions": [{"text": "x"}]}',
     '{"id": "one", "regions": [{"text": "x", "boxes": [], "masks": [{"size": [2, 2], "counts": "zz"}]}]}',
     *(f'{{"id": "one", "regions": [{{"text": "x", "boxes": [[{box}]]}}]}}'
       for box in ("9, 1, 2, 5", "1, 5, 2, 5", "1, 1, 1e400, 5", "NaN, 1, 2, 5", "1, 1, 35, 5", "-3, 1, 5, 5",
                   "1, 1, 5, 55"))],
)  # fmt: skip
def test_read_regions_with_invalid_line_raises_e134(tmp_path: Path, line: str) -> None:
    for folder in ("regions", "images"):
        (tmp_path / folder).mkdir()
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6  # 32 wide and 48 high, once upright
    Image.new("RGB", (48, 32)).save(tmp_path / "images" / "one.jpg", exif=turned)
    good = '{"id": "one", "regions": [{"text": "x", "boxes": [[-0.5, 0, 32.5, 48]]}]}'
    (tmp_path / "regions" / "dev.jsonl").write_text(good)
    assert len(read_regions(tmp_path, "dev").rows) == 1
    (tmp_path / "regions" / "train.jsonl").write_text("\n" + line + "\n")
    with pytest.raises(NamepinError, match=r"E134.*train\.jsonl:2"):
        read_regions(tmp_path, "train")


def test_read_regions_with_missing_file_or_picture_raises_e130_or_e120(tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E130"):
        read_regions(tmp_path, "train")
    (tmp_path / "regions").mkdir()
    (tmp_path / "regions" / "train.jsonl").write_text('{"id": "one", "regions": []}\n')
    with pytest.raises(NamepinError, match=r"E120.*one\.jpg"):
        read_regions(tmp_path, "train")
