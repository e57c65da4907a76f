"""Files that CVAT exports: turned boxes, deleted objects, white space in labels, one bad file, its own XML."""

import json
from pathlib import Path
from typing import Any

import pytest

from namepin.evals.datasets import READERS
from namepin.evals.datasets.convert import convert
from namepin.evals.datasets.gold import Dataset
from support.eval_samples import write_rows

TEXT = "IMGID:{0}\nAda\tB-PER\nLovelace\tI-PER\nsings\tO\n"
BOX = "<bndbox><xmin>40</xmin><ymin>20</ymin><xmax>60</xmax><ymax>60</ymax></bndbox>"
"""20 wide, 40 high, its centre at (50, 40)."""


def turned(degrees: object) -> str:
    return f"<attributes><attribute><name>rotation</name><value>{degrees}</value></attribute></attributes>"


def read(tmp_path: Path, **files: str) -> Dataset:
    """A split of one post a file; each post is "Ada Lovelace sings"."""
    (tmp_path / "txt").mkdir()
    (tmp_path / "xml").mkdir()
    (tmp_path / "txt" / "dev.txt").write_text("\n".join(TEXT.format(name) for name in files))
    for name, page in files.items():
        (tmp_path / "xml" / f"{name}.xml").write_text(page)
    return READERS["gmner"](tmp_path, "dev")


def voc(inner: str, name: str = "Ada Lovelace", box: str = BOX) -> str:
    size = "<size><width>200</width><height>100</height></size>"
    return f"<annotation>{size}<object><name>{name}</name>{inner}{box}</object></annotation>"


@pytest.mark.parametrize(
    ("degrees", "expected"),
    [
        ("90.0", (30, 30, 70, 50)),
        ("-90", (30, 30, 70, 50)),
        ("180", (40, 20, 60, 60)),
        ("0.0", (40, 20, 60, 60)),
        ("360", (40, 20, 60, 60)),
        ("nan", (40, 20, 60, 60)),
        ("", (40, 20, 60, 60)),
    ],
)
def test_voc_box_turned_in_cvat_is_the_box_around_it(tmp_path: Path, degrees: str, expected: tuple[int, ...]) -> None:
    data = read(tmp_path, p=voc(turned(degrees)))
    (box,) = data.posts[0].entities[0].boxes or ()
    assert box == pytest.approx(expected)
    codes = [problem.code for problem in data.problems if problem.code != "W130"]
    assert codes == (["W133"] if degrees in ("90.0", "-90", "180") else [])


def test_voc_object_that_was_deleted_is_not_gold(tmp_path: Path) -> None:
    data = read(tmp_path, gone=voc("<deleted> 1 </deleted>"), kept=voc("<deleted>0</deleted>"))
    assert [len(gold.entities[0].boxes or ()) for gold in data.posts] == [0, 1]


def test_voc_label_with_white_space_is_its_mention(tmp_path: Path) -> None:
    names = ["\n  Ada Lovelace\t", "Ada  Lovelace", "Ada\n    Lovelace"]
    data = read(tmp_path, **{f"p{n}": voc("", name) for n, name in enumerate(names)})
    assert [len(gold.entities[0].boxes or ()) for gold in data.posts] == [1, 1, 1]


CVAT = '<annotations><image id="0" name="p.jpg" width="200" height="100"><box label="Ada Lovelace" xtl="1"/></image>'


@pytest.mark.parametrize("bad", [CVAT + "</annotations>", CVAT, "", "<annotation>", "\0", "<html></html>"])
def test_one_bad_file_is_named_and_the_split_stays(tmp_path: Path, bad: str) -> None:
    data = read(tmp_path, bad=bad, fine=voc(""))
    assert [len(gold.entities[0].boxes or ()) for gold in data.posts] == [0, 1]
    (problem,) = (problem for problem in data.problems if problem.code != "W130")
    assert problem.code == "E133" and problem.where.endswith("bad.xml")
    assert ("CVAT" in problem.what) == bad.endswith("</annotations>")


@pytest.mark.parametrize(
    ("attributes", "expected", "codes"),
    [
        ({"rotation": 90.0, "occluded": False}, (15, 15, 45, 35), ["W133"]),
        ({"rotation": 0.0}, (20, 10, 40, 40), []),
        ({"rotation": None}, (20, 10, 40, 40), []),
        ("none", (20, 10, 40, 40), []),
        ({"rotation": "steep"}, None, ["E133"]),
    ],
)
def test_coco_box_turned_in_cvat_is_the_box_around_it(
    tmp_path: Path, attributes: Any, expected: tuple[int, ...] | None, codes: list[str]
) -> None:
    box = {"label": "PER", "start": 0, "end": 3, "boxes": [[20, 10, 40, 40]]}
    write_rows(tmp_path / "dev.jsonl", [{"id": "t", "text": "Ada", "size": [100, 80], "entities": [box]}])
    convert(tmp_path, "jsonl", "dev", tmp_path / "tool", "coco")
    file = tmp_path / "tool" / "dev.coco.json"
    page = json.loads(file.read_text())
    page["annotations"][0]["attributes"] = attributes
    file.write_text(json.dumps(page))
    data = READERS["coco"](tmp_path / "tool", "dev")
    found = data.posts[0].entities[0].boxes or ()
    assert list(found) == ([pytest.approx(expected)] if expected else [])
    assert [problem.code for problem in data.problems if problem.code != "W130"] == codes
