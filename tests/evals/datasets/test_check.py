"""`namepin data check`: the statistics of a folder, and all its problems."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from namepin.agent.cli.data import register
from namepin.evals.datasets.check import check_folder, detect
from namepin.tools.errors import NamepinError
from support.eval_samples import XML, gmner_folder, write_rows


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    register(app)
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["data", "check", *map(str, arguments)], standalone_mode=False)


BOX = "<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>6</xmax><ymax>6</ymax></bndbox></object>"


def test_check_folder_counts_posts_entities_boxes_and_overlaps(tmp_path: Path) -> None:
    more = BOX.format(name="Rome") + BOX.format(name="Angelina Jolie")
    gmner_folder(tmp_path, xml=XML.format(more=more))
    (tmp_path / "txt" / "train.txt").write_text("IMGID:2\nnothing\tO\nhere\tO\n\nIMGID:9\nRome\tB-LOC\nRome\tB-LOC\n")
    (tmp_path / "images").mkdir()
    check = check_folder(tmp_path)
    dev, train = check.splits["dev"], check.splits["train"]
    assert (dev.posts, dev.tokens, dev.entities, dev.groundable, dev.boxes, dev.multi_box) == (2, 6, 2, 2, 3, 1)
    assert (dev.small, dev.without_entities, dev.missing_images, dev.masks) == (1, 1, 2, None)
    assert (train.duplicates, train.by_type) == (1, {"LOC": 2})
    assert [(o.splits, o.ids, o.texts) for o in check.overlaps] == [(("train", "dev"), 1, 1)]
    assert {p["code"] for p in check.problems} == {"W130"} and check.sound


def test_data_check_with_problems_prints_file_and_line_and_exits_1(tmp_path: Path) -> None:
    gmner_folder(tmp_path, "IMGID:1\nAngelina\tI-PER\nJolie\n")
    out = tmp_path / "check.json"
    result = run(tmp_path, "--json", out)
    assert result.return_value == 1
    assert "dev.txt:2" in result.stdout and "dev.txt:3" in result.stdout and "1.xml" in result.stdout
    assert {p["code"] for p in json.loads(out.read_text())["problems"]} == {"E131", "E132", "E133"}


def test_data_check_of_sound_folder_exits_0(tmp_path: Path) -> None:
    result = run(gmner_folder(tmp_path))
    assert result.return_value == 0 and "no problems" in result.stdout


@pytest.mark.parametrize(
    ("files", "name"),
    [
        (["txt/dev.txt"], "gmner"),
        (["txt/dev.txt", "masks/1.json"], "smner"),
        (["txt_fine/dev.txt", "txt/dev.txt"], "fmnerg"),
        (["valid.txt"], "twitter"),
        (["emerging.dev.conll"], "wnut17"),
        (["test.jsonl"], "jsonl"),
    ],
)
def test_detect_returns_dataset_name_from_folder_layout(tmp_path: Path, files: list[str], name: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        write_rows(tmp_path / file, [])
    assert detect(tmp_path) == name


def test_data_check_of_folder_without_dataset_raises_e130(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        result = run(root)
        assert isinstance(result.exception, NamepinError) and result.exception.code == "E130"


@pytest.mark.data
def test_check_folder_of_research_data_is_sound(data_root: Path) -> None:
    check = check_folder(data_root / "gmner")
    assert check.sound
    assert [check.splits[s].groundable for s in ("train", "dev")] == [4733, 991]
    assert check.overlaps[0].ids == 0
