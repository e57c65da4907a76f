"""VOC boxes and labelme masks as annotation tools write them."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from namepin.evals.datasets import READERS
from namepin.evals.datasets.masks import read_masks
from namepin.evals.datasets.voc import read_boxes
from support.eval_samples import gmner_folder

BOUNDS = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
PART = f"<part><name>head</name>{BOUNDS.format(9, 9, 10, 10)}</part>"


def voc(tmp_path: Path, objects: str, name: str = "Ada") -> tuple[Any, list[str]]:
    path = tmp_path / "1.xml"
    size = "<size><width>100</width><height>80</height></size>"
    path.write_text(f"<annotation>{size}<object><name>{name}</name>{objects}</object></annotation>")
    _, boxes, problems = read_boxes(path)
    return boxes, [problem.code for problem in problems]


@pytest.mark.parametrize(
    ("objects", "boxes", "codes"),
    [
        (BOUNDS.format(" 1 ", 2, "3.5", 4), [(1, 2, 3.5, 4)], []),
        (BOUNDS.format(1, 2, 3, 4) + BOUNDS.format(5, 6, 7, 8), [(1, 2, 3, 4), (5, 6, 7, 8)], []),
        (BOUNDS.format(3, 4, 1, 2), [(1, 2, 3, 4)], ["W133"]),
        (BOUNDS.format(1, 2, 1, 4), None, ["E133"]),
        (BOUNDS.format("1,5", 2, 3, 4), None, ["E133"]),
        (BOUNDS.format("inf", 2, 3, 4), None, ["E133"]),
        (
            f"<part><name>head</name>{BOUNDS.format(9, 9, 10, 10)}</part>" + BOUNDS.format(1, 2, 3, 4),
            [(1, 2, 3, 4)],
            [],
        ),
        (f"<part><name>head</name>{BOUNDS.format(9, 9, 10, 10)}</part>", None, []),
        ("<robndbox><cx>50</cx><cy>40</cy><w>20</w><h>10</h><angle>0</angle></robndbox>", [(40, 35, 60, 45)], []),
        ("<polygon><x1>1</x1><y1>2</y1><x2>9</x2><y2>2</y2><x3>5</x3><y3>8</y3></polygon>", [(1, 2, 9, 8)], []),
        ("<polygon><pt><x>1</x><y>2</y></pt><pt><x>9</x><y>8</y></pt></polygon>", [(1, 2, 9, 8)], []),
        ("<polygon/>", None, ["E133"]),
    ],
)
def test_read_boxes_of_object_returns_box_or_code(tmp_path: Path, objects: str, boxes: Any, codes: list[str]) -> None:
    assert voc(tmp_path, objects) == ({"Ada": boxes} if boxes else {}, codes)


@pytest.mark.parametrize("name", ["\n   Angelina\n  Jolie\n ", "Angelina  Jolie", "Angelina Jolie\t"])
def test_smner_reader_ignores_whitespace_differences_in_names(tmp_path: Path, name: str) -> None:
    xml = f"<annotation><object><name>{name}</name>{BOUNDS.format(1, 2, 3, 4)}</object></annotation>"
    folder = gmner_folder(tmp_path, xml=xml)
    (folder / "masks").mkdir()
    shapes = [{"label": name, "points": [[0, 0], [4, 0], [4, 4]], "shape_type": "polygon"}]
    (folder / "masks" / "1.json").write_text(json.dumps({"shapes": shapes, "imageWidth": 9, "imageHeight": 9}))
    data = READERS["smner"](folder, "dev")
    entity = data.posts[0].entities[0]
    assert entity.boxes == ((1, 2, 3, 4),) and entity.masks and not data.problems


def test_gmner_reader_with_name_in_other_case_reports_it_without_box(tmp_path: Path) -> None:
    xml = f"<annotation><object><name>angelina jolie</name>{BOUNDS.format(1, 2, 3, 4)}</object></annotation>"
    data = READERS["gmner"](gmner_folder(tmp_path, xml=xml), "dev")
    assert not data.posts[0].entities[0].boxes
    assert "'Angelina Jolie' differs in case" in data.problems[0].what


def png(array: Any) -> str:
    file = io.BytesIO()
    Image.fromarray(np.array(array, dtype=bool)).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def masks(tmp_path: Path, *shapes: dict[str, Any]) -> tuple[list[int], list[str]]:
    path = tmp_path / "1.json"
    found = [{"label": "Ada", **shape} for shape in shapes]
    path.write_text(json.dumps({"shapes": found, "imageWidth": 10, "imageHeight": 8}))
    regions, problems = read_masks(path)
    return [int(mask.to_array().sum()) for mask in regions.get("Ada", [])], [problem.code for problem in problems]


SQUARE = [[2, 2], [6, 2], [6, 6], [2, 6]]
FULL = [[1] * 4] * 4


@pytest.mark.parametrize(
    ("shape", "pixels", "codes"),
    [
        ({"shape_type": "polygon", "points": SQUARE}, [16], []),
        ({"points": SQUARE}, [16], []),
        ({"shape_type": "rectangle", "points": [[6, 6], [2, 2]]}, [16], []),
        ({"shape_type": "rectangle", "points": SQUARE}, [16], []),
        ({"shape_type": "rotation", "points": SQUARE, "direction": 0}, [16], []),
        ({"shape_type": "oriented_rectangle", "points": SQUARE}, [16], []),
        ({"shape_type": "mask", "points": [[2, 2], [5, 5]], "mask": png(FULL)}, [16], []),
        ({"shape_type": "mask", "points": [[5, 5], [2, 2]], "mask": png([[1, 0], [0, 0]])}, [1], []),
        ({"shape_type": "mask", "points": [[8, 6], [11, 9]], "mask": png(FULL)}, [4], []),
        ({"shape_type": "mask", "points": [[-2, -2], [1, 1]], "mask": png(FULL)}, [4], []),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": png([[0, 0]])}, [], ["E133"]),
        ({"shape_type": "mask", "points": [], "mask": png(FULL)}, [], ["E133"]),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": png([[1] * 11])}, [], ["E133"]),
        ({"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": None}, [], ["E133"]),
        ({"shape_type": "polygon", "points": [[1, 1], [1, 1], [1, 1]]}, [], ["E133"]),
        ({"shape_type": "polygon", "points": [[20, 20], [30, 20], [30, 30]]}, [], ["E133"]),
        ({"shape_type": "polygon", "points": [[1, 1], [2, 2]]}, [], ["E133"]),
        ({"shape_type": "linestrip", "points": SQUARE}, [], ["E133"]),
        ({"shape_type": "points", "points": SQUARE}, [], ["E133"]),
        ({"shape_type": "polygon", "points": [[1, 1], [None, 2], [3, 3]]}, [], ["E133"]),
        ({"shape_type": "polygon", "points": "none"}, [], ["E133"]),
    ],
)
def test_read_masks_of_any_shape_type_returns_pixels_or_codes(
    tmp_path: Path, shape: dict[str, Any], pixels: list[int], codes: list[str]
) -> None:
    assert masks(tmp_path, shape) == (pixels, codes)


def test_read_masks_unites_bitmap_and_polygon_of_one_group(tmp_path: Path) -> None:
    bitmap = {"shape_type": "mask", "points": [[0, 0], [1, 1]], "mask": png([[1, 1], [1, 1]]), "group_id": 1}
    assert masks(tmp_path, bitmap, {"points": SQUARE, "group_id": 1}) == ([20], [])


def test_read_masks_with_nan_point_skips_that_shape(tmp_path: Path) -> None:
    path = tmp_path / "1.json"
    bad, good = '{"label": "Ada", "points": [[NaN, 1], [1, 2], [3, 3]]}', json.dumps({"label": "Ada", "points": SQUARE})
    path.write_text(f'{{"shapes": [{bad}, {good}], "imageWidth": 10, "imageHeight": 8}}')
    regions, (problem,) = read_masks(path)
    assert len(regions["Ada"]) == 1 and "shape 0" in problem.what
