"""Conversions there and back."""

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from namepin.agent.cli.data import register
from namepin.evals.datasets import READERS
from namepin.evals.datasets.convert import convert
from namepin.evals.datasets.rows import row_of
from namepin.tools.errors import NamepinError
from support.eval_samples import XML, gmner_folder, write_rows

READ_AS = {"conll": "gmner", "jsonl": "jsonl", "labelme": "labelme", "coco": "coco", "label-studio": "label-studio"}


def rows(source: Path, name: str) -> list[dict[str, Any]]:
    return [row_of(gold, source) for gold in READERS[name](source, "dev").usable().posts]


@pytest.mark.parametrize("form", READ_AS)
def test_convert_roundtrip_equals_source_rows(tmp_path: Path, form: str) -> None:
    source = gmner_folder(tmp_path / "source")
    assert convert(source, "gmner", "dev", tmp_path / "out", form).posts == 2
    back, expected = rows(tmp_path / "out", READ_AS[form]), rows(source, "gmner")
    assert sorted(back, key=lambda row: row["id"]) == expected


@pytest.mark.parametrize("form", READ_AS)
def test_convert_to_form_and_back_to_conll_equals_source_entities(tmp_path: Path, form: str) -> None:
    source = gmner_folder(tmp_path / "source")
    convert(source, "gmner", "dev", tmp_path / "out", form)
    convert(tmp_path / "out", READ_AS[form], "dev", tmp_path / "back", "conll")
    before, after = READERS["gmner"](source, "dev"), READERS["gmner"](tmp_path / "back", "dev")
    assert [gold.entities for gold in before.posts] == [gold.entities for gold in after.posts]
    assert not after.problems


def test_convert_without_boxes_writes_no_boxes_field(tmp_path: Path) -> None:
    source = gmner_folder(tmp_path / "source", xml=None)
    convert(source, "gmner", "dev", tmp_path, "coco")
    assert "boxes" not in rows(tmp_path, "coco")[0]["entities"][0]


def test_convert_of_fine_types_writes_txt_fine_file(tmp_path: Path) -> None:
    (tmp_path / "txt_fine").mkdir()
    write_rows(tmp_path / "txt_fine" / "dev.txt", ["IMGID:1", "Rome\tB-location\tB-city", "x\tO\tO"])
    convert(tmp_path, "fmnerg", "dev", tmp_path / "out", "conll")
    assert (tmp_path / "out" / "txt_fine" / "dev.txt").read_text() == "IMGID:1\nRome\tB-location\tB-city\nx\tO\tO\n"
    assert "Rome\tB-LOC\n" in (tmp_path / "out" / "txt" / "dev.txt").read_text()


@pytest.mark.parametrize("form", ["jsonl", "labelme", "coco", "label-studio"])
def test_convert_roundtrip_keeps_masks(tmp_path: Path, form: str) -> None:
    source = gmner_folder(tmp_path / "source")
    square = {
        "label": "Angelina Jolie",
        "points": [[2, 2], [8, 2], [8, 8], [2, 8]],
        "shape_type": "polygon",
        "group_id": 1,
    }
    (source / "masks").mkdir()
    page = {"shapes": [square], "imageWidth": 20, "imageHeight": 10}
    write_rows(source / "masks" / "1.json", [page])
    expected = rows(source, "smner")
    assert any(entity["masks"] for entity in expected[0]["entities"])
    convert(source, "smner", "dev", tmp_path / "out", form)
    assert sorted(rows(tmp_path / "out", form), key=lambda row: row["id"]) == expected


def test_labelme_box_after_move_reads_back_as_upright_box(tmp_path: Path) -> None:
    convert(gmner_folder(tmp_path / "source"), "gmner", "dev", tmp_path, "labelme")
    file = tmp_path / "dev" / "1.json"
    page = json.loads(file.read_text())
    page["shapes"][0]["points"] = [[30, 40], [10, 20]]
    file.write_text(json.dumps(page))
    assert rows(tmp_path, "labelme")[0]["entities"][0]["boxes"] == [[10, 20, 30, 40]]


def test_convert_to_coco_loads_in_pycocotools(tmp_path: Path) -> None:
    convert(gmner_folder(tmp_path / "source"), "gmner", "dev", tmp_path, "coco")
    from pycocotools.coco import COCO

    coco = COCO(str(tmp_path / "dev.coco.json"))
    (annotation,) = coco.loadAnns(coco.getAnnIds())
    assert annotation["bbox"] == [10, 10, 40, 50]
    assert coco.loadCats(annotation["category_id"])[0]["name"] == "PER"


def test_convert_to_conll_splits_tokens_at_mention_edges(tmp_path: Path) -> None:
    row = {"id": "a", "text": "Adas (Bob)", "entities": [{"label": "PER", "start": 0, "end": 3}]}
    row["entities"] += [{"label": "PER", "start": 6, "end": 9}]  # type: ignore[operator]
    write_rows(tmp_path / "dev.jsonl", [row])
    done = convert(tmp_path, "jsonl", "dev", tmp_path / "out", "conll")
    (post,) = READERS["gmner"](tmp_path / "out", "dev").usable().posts
    assert post.post.tokens == ("Ada", "s", "(", "Bob", ")")
    assert [entity.text for entity in post.entities] == ["Ada", "Bob"]
    assert done.complete and {problem.code for problem in done.problems} == {"W132"}


@pytest.mark.parametrize("form", ["labelme", "coco", "label-studio"])
def test_readers_of_missing_or_broken_tool_files_raise_e130_or_e131(tmp_path: Path, form: str) -> None:
    with pytest.raises(NamepinError, match="E130"):
        rows(tmp_path, form)
    (tmp_path / "dev").mkdir()
    for file in ("dev/1.json", "dev.coco.json", "dev.label-studio.json"):
        write_rows(tmp_path / file, ["{}"] if form != "label-studio" else ["[{}]"])
    with pytest.raises(NamepinError, match="E131"):
        rows(tmp_path, form)


def test_data_convert_command_prints_count_or_raises_e500(tmp_path: Path) -> None:
    def run(*arguments: object) -> Result:
        app = typer.Typer()
        register(app)
        app.command("other")(lambda: None)
        return CliRunner().invoke(app, ["data", "convert", *map(str, arguments)], standalone_mode=False)

    source = gmner_folder(tmp_path / "source", xml=XML.format(more=""))
    result = run(source, tmp_path / "out", "--to", "coco", "--split", "dev")
    assert result.return_value == 0 and "2 posts" in result.stdout
    assert (tmp_path / "out" / "dev.coco.json").is_file()
    blocked = run(source, source / "txt" / "dev.txt", "--to", "coco", "--split", "dev")
    assert isinstance(blocked.exception, NamepinError) and blocked.exception.code == "E500"


@pytest.mark.parametrize("form", READ_AS)
def test_convert_with_hostile_ids_stays_in_target_and_roundtrips(tmp_path: Path, form: str) -> None:
    ids = ["../../escaped", "2024/05/a", "2024_05_a", "/absolute", "..", "a b", "é"]
    given = []
    for i, post_id in enumerate(ids):
        entity = {"label": "PER", "start": 0, "end": 3, "boxes": [[10, 10, 30, 40 + i]]}
        given.append({"id": post_id, "text": "Ada met Bob", "size": [100, 80], "entities": [entity]})
    source, out = tmp_path / "source", tmp_path / "deep" / "inside" / "out"
    source.mkdir()
    (source / "dev.jsonl").write_text("\n".join(map(json.dumps, given)), "utf-8")
    assert convert(source, "jsonl", "dev", out, form).posts == len(ids)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and out not in path.parents] == [
        source / "dev.jsonl"
    ]
    boxes = {row["id"]: row["entities"][0]["boxes"] for row in rows(out, READ_AS[form])}
    assert boxes == {row["id"]: row["entities"][0]["boxes"] for row in given}


@pytest.mark.parametrize("form", READ_AS)
def test_convert_onto_its_source_raises_e105(tmp_path: Path, form: str) -> None:
    source = gmner_folder(tmp_path / "source")
    convert(source, "gmner", "dev", tmp_path / "out", form)
    with pytest.raises(NamepinError, match="E105"):
        convert(tmp_path / "out", READ_AS[form], "dev", tmp_path / "out" / ".", form)


def test_convert_again_without_boxes_removes_old_boxes(tmp_path: Path) -> None:
    entity = {"label": "PER", "start": 0, "end": 3, "boxes": [[1, 1, 9, 9]]}
    for boxes in ([[1, 1, 9, 9]], []):
        write_rows(tmp_path / "dev.jsonl", [{"id": "a", "text": "Ada", "entities": [{**entity, "boxes": boxes}]}])
        convert(tmp_path, "jsonl", "dev", tmp_path / "out", "conll")
    assert not READERS["gmner"](tmp_path / "out", "dev").posts[0].entities[0].boxes


def test_convert_to_conll_counts_dropped_content(tmp_path: Path) -> None:
    entities = [
        {"label": "ORG", "start": 0, "end": 8, "fine_label": "company", "boxes": [[1, 1, 9, 9]]},
        {"label": "LOC", "start": 4, "end": 8, "boxes": []},
        {"label": "PER", "start": 9, "end": 12, "boxes": []},
    ]
    row = {"id": "a", "tokens": ["The\tOslo", "Ada"], "image": "pics/1.jpg", "author": "x", "entities": entities}
    write_rows(tmp_path / "dev.jsonl", [row, {"id": "b\n", "text": "lost", "entities": []}])
    done = convert(tmp_path, "jsonl", "dev", tmp_path / "out", "conll")
    assert [(p.code, p.what.partition(" (in post")[0]) for p in done.problems] == [
        ("E140", "1 mentions within or across a longer one: a token has one tag"),
        ("W132", "1 posts with tabs, line ends or half characters in a token, each written as one space"),
        ("E140", "1 posts with other keys, which the form has no place for"),
        ("W132", "1 pictures that this form looks for as images/ID.jpg, and not by their path"),
        ("E140", "1 posts whose ids cannot stand in a line"),
        ("E140", "1 fine types, since other mentions have none: there is no txt_fine/"),
    ]
    (post,) = READERS["gmner"](tmp_path / "out", "dev").usable().posts
    assert [(entity.text, entity.boxes) for entity in post.entities] == [("The Oslo", ((1, 1, 9, 9),)), ("Ada", ())]
