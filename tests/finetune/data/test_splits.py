"""Faults of a split stop a training if they would teach something false; others are counted."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from namepin.finetune.data.splits import read_gold
from namepin.tools.errors import NamepinError
from support.tiny_world import write_world


@pytest.fixture
def world(tmp_path: Path) -> Path:
    return write_world(tmp_path / "world")


def fine(tags: str) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        (root / "txt_fine").mkdir(exist_ok=True)
        (root / "txt_fine" / "train.txt").write_text(f"IMGID:train0\nada\t{tags}\n")
        return "fmnerg"

    return write


def coarse(tag: str) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        (root / "txt" / "train.txt").write_text(f"IMGID:train0\nada\t{tag}\n")
        return "gmner"

    return write


def jsonl(root: Path) -> str:
    entity = {"label": "PER", "token_span": [0, 1], "fine_label": "unicorn"}
    (root / "train.jsonl").write_text("\n" + json.dumps({"id": "a", "tokens": ["ada"], "entities": [entity]}) + "\n")
    return "jsonl"


@pytest.mark.parametrize(
    ("write", "where"),
    [
        (fine("B-person\tB-unicorn"), r"unicorn.*txt_fine.train\.txt:2"),
        (fine("B-person\tO"), r"txt_fine.train\.txt:2"),
        (coarse("B-PET"), r"PET.*txt.train\.txt:2"),
        (coarse("X-PER"), r"X-PER.*txt.train\.txt:2"),
        (jsonl, r"unicorn.*train\.jsonl:2"),
    ],
)
def test_read_gold_with_type_outside_scheme_raises_e132(world: Path, write: Callable[[Path], str], where: str) -> None:
    with pytest.raises(NamepinError, match=f"E132.*{where}"):
        read_gold(write(world), world, "train")


def of_others(file: Path) -> None:
    file.write_text(re.sub("<name>.*?</name>", "<name>Nobody Here</name>", file.read_text()))


def emptied(file: Path) -> None:
    file.write_text(re.sub("<(xmin|xmax)>.*?</", r"<\1>9</", file.read_text()))


def cut(file: Path) -> None:
    file.write_text("<annotation><object>")


@pytest.mark.parametrize("harm", [of_others, emptied, cut])
def test_read_gold_with_misfit_boxes_counts_or_raises_e133(
    world: Path, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of four boxes, two may be left out: one line says so; of three, the annotations are of other posts."""
    read_gold("gmner", world, "train", regions=True)
    assert not capsys.readouterr().err
    for number in (0, 2):
        harm(world / "xml" / f"train{number}.xml")
    read_gold("gmner", world, "train", regions=True)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and re.search(r"2 problems in gmner train.*E133.*train0\.xml", said)
    harm(world / "xml" / "train4.xml")
    with pytest.raises(NamepinError, match=r"E133.*3 of 4 annotated boxes.*train0\.xml"):
        read_gold("gmner", world, "train", regions=True)
    assert read_gold("gmner", world, "train").posts and not capsys.readouterr().err, "where no box is learnt from"


def test_read_gold_with_misfit_mask_raises_e133(world: Path) -> None:
    (world / "masks").mkdir()
    outline = {"label": "Nobody", "points": [[0, 0], [4, 0], [4, 4]], "shape_type": "polygon"}
    said: dict[str, Any] = {"imageHeight": 48, "imageWidth": 48, "shapes": [outline]}
    (world / "masks" / "train0.json").write_text(json.dumps(said))
    with pytest.raises(NamepinError, match=r"E133.*1 of 1 annotated masks.*train0\.json"):
        read_gold("smner", world, "train", regions=True)


def test_read_gold_with_broken_tag_counts_one_problem(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert read_gold(coarse("I-PER")(world), world, "train").posts[0].entities
    assert re.search(r"1 problems in gmner train.*E132.*train\.txt:2", capsys.readouterr().err)


def test_read_gold_with_contradicting_tags_counts_one_problem(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for tags in ("B-person\tB-city", "O\tB-city"):
        assert read_gold(fine(tags)(world), world, "train")
        assert re.search(r"1 problems in fmnerg train.*E132.*train\.txt:2", capsys.readouterr().err)


def test_read_gold_without_xml_has_no_boxes(world: Path) -> None:
    shutil.rmtree(world / "xml")
    assert not read_gold("gmner", world, "train", regions=True).has_boxes
