"""Annotators' edits in labelme, COCO and Label Studio: read back, or reported by file and task."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from namepin.evals.datasets import POSTS, READERS
from namepin.evals.datasets.check import check_folder, detect
from namepin.evals.datasets.convert import convert
from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.evals.datasets.masks import region_of
from namepin.tools.errors import NamepinError
from namepin.tools.types import Mask
from support.eval_samples import write_rows

FILES = {"labelme": "dev/t1.json", "coco": "dev.coco.json", "label-studio": "dev.label-studio.json"}
ADA: dict[str, Any] = {"label": "PER", "start": 0, "end": 3, "boxes": [[10, 10, 30, 40]]}
BOB: dict[str, Any] = {"label": "PER", "start": 8, "end": 11, "boxes": []}
POSTS_ROWS = [
    {"id": "t1", "text": "Ada met Bob", "size": [100, 80], "image": "a/1.jpg", "entities": [ADA, BOB]},
    {"id": "t2", "text": "Cleo", "entities": [{"label": "PER", "start": 0, "end": 4, "boxes": []}]},
]
SQUARE = {"size": [80, 100], "counts": [0, 20, 7980]}

Change = Callable[[Any], None]


def edited(tmp_path: Path, form: str, change: Change, rows: list[Any] | None = None) -> Dataset:
    """The split after `change` edited the tool's file, whose first post is t1."""
    tmp_path.mkdir(exist_ok=True)
    write_rows(tmp_path / "dev.jsonl", rows or POSTS_ROWS)
    convert(tmp_path, "jsonl", "dev", tmp_path / "tool", form)
    file = tmp_path / "tool" / FILES[form]
    page = json.loads(file.read_text())
    change(page)
    file.write_text(json.dumps(page))
    return READERS[form](tmp_path / "tool", "dev")


def first(data: Dataset) -> GoldPost:
    return next(gold for gold in data.posts if gold.post.id == "t1")


def listed(data: Dataset) -> list[str]:
    return [problem.code for problem in data.problems if problem.code != "W130"]


def shape(label: str, points: list[list[float]], kind: str = "rectangle", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}} | more


def test_labelme_new_box_is_assigned_to_mention_of_its_label(tmp_path: Path) -> None:
    data = edited(tmp_path, "labelme", lambda page: page["shapes"].append(shape("Bob ", [[9, 8], [1, 2]])))
    assert first(data).entities[1].boxes == ((1, 2, 9, 8),) and listed(data) == []


def test_labelme_relabelled_box_moves_to_other_mention(tmp_path: Path) -> None:
    data = edited(tmp_path, "labelme", lambda page: page["shapes"][0].update(label="Bob"))
    assert [entity.boxes for entity in first(data).entities] == [(), ((10, 10, 30, 40),)]


def test_labelme_deleted_box_makes_mention_ungroundable(tmp_path: Path) -> None:
    data = edited(tmp_path, "labelme", lambda page: page["shapes"].clear())
    assert not first(data).entities[0].groundable and first(data).entities[0].boxes == ()


@pytest.mark.parametrize(
    ("new", "code", "what"),
    [
        (shape("Zoe", [[1, 1], [5, 5]]), "E133", "no mention of the post has this name"),
        (shape("Bob", [[1, 1]], "point"), "E133", "point"),
        (shape("Bob", [[1, 1], [1, 5]]), "E133", "empty"),
        (shape("Bob", [[1, 1], [5, 5]], "polygon"), "E133", "fewer than three points"),
        (shape("Bob", [[1, 1], [5, 1], [5, 5]], "polygon"), "W133", "the box around it"),
        (shape("Bob", [[4, 0], [8, 4], [4, 8], [0, 4]], "rotation"), "W133", "the box around it"),
        (shape("Bob", [[50, 40], [50, 60]], "circle"), "W133", "the box around it"),
        ({"label": "Bob"}, "E133", "'points' is missing"),
        ("Bob", "E133", "cannot be read"),
    ],
)
def test_labelme_shape_not_upright_box_is_reported(tmp_path: Path, new: Any, code: str, what: str) -> None:
    data = edited(tmp_path, "labelme", lambda page: page["shapes"].append(new))
    (problem,) = (problem for problem in data.problems if problem.code != "W130")
    assert problem.code == code and what in problem.what and problem.where.endswith("t1.json")
    assert first(data).entities[0].boxes == ((10, 10, 30, 40),)
    assert bool(first(data).entities[1].boxes) == (code == "W133")


def test_labelme_other_picture_size_is_adopted_with_w133(tmp_path: Path) -> None:
    data = edited(tmp_path, "labelme", lambda page: page.update(imageWidth=50, imageHeight="40"))
    assert first(data).size == (50, 40) and listed(data) == ["W133"]


def test_labelme_image_path_is_relative_to_its_folder(tmp_path: Path) -> None:
    paths = []
    edited(tmp_path, "labelme", lambda page: paths.append(page["imagePath"]))
    assert paths == ["../a/1.jpg"]


def with_masks() -> list[Any]:
    return [{**POSTS_ROWS[0], "entities": [ADA | {"masks": [SQUARE]}, BOB | {"masks": []}]}]


def test_labelme_edited_polygon_becomes_mask(tmp_path: Path) -> None:
    def change(page: Any) -> None:
        (polygon,) = (item for item in page["shapes"] if item["shape_type"] == "polygon")
        polygon["points"] = [[0, 0], [4, 0], [4, 2], [0, 2]]

    (mask,) = first(edited(tmp_path, "labelme", change, with_masks())).entities[0].masks or ()
    assert int(mask.to_array().sum()) == 8


def test_annotation_tools_keep_boxes_of_equal_names_apart(tmp_path: Path) -> None:
    entities = [ADA, {**BOB, "boxes": [[1, 1, 2, 2]]}]
    for form in FILES:
        rows = [{"id": "t1", "text": "Ada met Ada", "size": [100, 80], "entities": entities}]
        data = edited(tmp_path / form, form, lambda page: None, rows)
        assert [entity.boxes for entity in first(data).entities] == [((10, 10, 30, 40),), ((1, 1, 2, 2),)]


def annotation(page: Any) -> Any:
    return page["annotations"][0]


@pytest.mark.parametrize(
    ("change", "code", "what"),
    [
        (lambda page: annotation(page).update(bbox=[12, 10, 0, 0]), "E133", "is empty"),
        (lambda page: annotation(page).update(bbox=[12, 10, float("nan"), 3]), "E133", "not 4 numbers"),
        (lambda page: annotation(page).update(bbox=[12, 10]), "E133", "not 4 numbers"),
        (lambda page: annotation(page).pop("bbox"), "E133", "no bbox"),
        (lambda page: annotation(page).pop("entity"), "E133", "lacks the key `entity`"),
        (lambda page: annotation(page).update(entity=9), "E133", "is of entity 9"),
        (lambda page: annotation(page).update(image_id=99), "E133", "its image is not read"),
        (lambda page: annotation(page).update(category_id=3), "W133", "category ORG"),
        (lambda page: annotation(page).update(bbox=[30, 40, -20, -30]), "", ""),
        (lambda page: annotation(page).update(entity="0", image_id=1.0), "", ""),
        (lambda page: page.pop("categories"), "", ""),
        (lambda page: annotation(page).update(segmentation=[]), "", ""),
        (lambda page: annotation(page).update(segmentation=[[1, 1, 5, 1, 5, 5, 2]]), "", ""),
        (lambda page: page["images"][1].pop("namepin"), "E131", "dropped the key"),
        (lambda page: page["images"][1].update(namepin={"id": "t2"}), "E131", "text"),
        (lambda page: page["images"].append({**page["images"][0], "id": 7}), "E131", "occurs twice"),
    ],
)
def test_coco_with_bad_annotation_reports_and_keeps_rest(tmp_path: Path, change: Change, code: str, what: str) -> None:
    data = edited(tmp_path, "coco", change)
    problems = [problem for problem in data.usable().problems if problem.code != "W130"]
    assert [problem.code for problem in problems] == ([code] if code else [])
    assert all(what in problem.what and "dev.coco.json" in problem.where for problem in problems)
    assert (first(data).entities[0].boxes == ((10, 10, 30, 40),)) == (code != "E133")


@pytest.mark.parametrize(
    "segmentation",
    [
        SQUARE,
        [[0, 0, 1, 0, 1, 20, 0, 20]],
        Mask.model_validate(SQUARE).model_dump(mode="json"),
        [0, 0, 1, 0, 1, 20, 0, 20],
    ],
)
def test_coco_segmentation_as_rle_or_polygon_becomes_mask(tmp_path: Path, segmentation: Any) -> None:
    def change(page: Any) -> None:
        page["annotations"][1]["segmentation"] = segmentation

    (mask,) = first(edited(tmp_path, "coco", change, with_masks())).entities[0].masks or ()
    assert mask.tight_box() == (0, 0, 1, 20)


@pytest.mark.parametrize(
    ("segmentation", "what"),
    [
        ([[1, 1, 5, 1, 5, 5, 2]], "pairs"),
        ([[1, 1, 5, 5]], "three points"),
        ({"size": [80, 100], "counts": [5]}, "do not cover"),
        ({"size": [80, 100], "counts": [0.5, 7999.5]}, "whole numbers"),
        ("x", "neither polygons nor run lengths"),
        ([[1, 1, None, 1, 5, 5]], "numbers"),
        ([[-9, -9, -5, -9, -5, -5]], "encloses no pixel"),
    ],
)
def test_coco_with_invalid_segmentation_reports_e133(tmp_path: Path, segmentation: Any, what: str) -> None:
    def change(page: Any) -> None:
        page["annotations"][1]["segmentation"] = segmentation

    data = edited(tmp_path, "coco", change, with_masks())
    (problem,) = (problem for problem in data.problems if problem.code != "W130")
    assert problem.code == "E133" and what in problem.what and "annotation 2" in problem.what
    assert first(data).entities[0].boxes == ((10, 10, 30, 40),)


def test_coco_without_namepin_keys_raises_one_e131(tmp_path: Path) -> None:
    data = edited(tmp_path, "coco", lambda page: [image.pop("namepin") for image in page["images"]])
    with pytest.raises(NamepinError, match="E131.*`namepin`.*`entity`"):
        data.usable()
    assert len(data.problems) == 1


def results(page: Any) -> list[Any]:
    found: list[Any] = page[0]["annotations"][0]["result"]
    return found


def box(region_id: str, **value: Any) -> dict[str, Any]:
    place = {"x": 50, "y": 25, "width": 20, "height": 50, "rotation": 0} | value
    return {"id": region_id, "type": "rectanglelabels", "original_width": 100, "original_height": 80, "value": place}


def related(page: Any, item: dict[str, Any], span: str = "e1", backwards: bool = False) -> None:
    ends = [item["id"], span][:: -1 if backwards else 1]
    results(page).extend([item, {"type": "relation", "from_id": ends[0], "to_id": ends[1], "direction": "right"}])


POINTS = [[50, 25], [70, 25], [70, 75], [50, 75]]


@pytest.mark.parametrize(
    ("change", "code", "boxes"),
    [
        (lambda page: related(page, box("n")), "", ((50, 20, 70, 60),)),
        (lambda page: related(page, box("n"), backwards=True), "", ((50, 20, 70, 60),)),
        (lambda page: related(page, box("n", rotation=360)), "", ((50, 20, 70, 60),)),
        (lambda page: related(page, box("n", rotation=180)), "W133", ((30, 0, 50, 20),)),
        (lambda page: related(page, box("n", points=POINTS)), "W133", ((50, 20, 70, 60),)),
        (lambda page: related(page, box("n", radiusX=10, radiusY=10)), "W133", ((40, 12, 60, 28),)),
        (lambda page: related(page, {**box("n"), "original_width": None}), "", ((50, 20, 70, 60),)),
        (lambda page: results(page).append(box("n")), "E133", ()),
        (lambda page: related(page, box("n"), span="gone"), "E133", ()),
        (lambda page: related(page, box("n", width=0)), "E133", ()),
        (lambda page: related(page, box("n", x=None)), "E133", ()),
        (lambda page: related(page, {**box("n"), "image_rotation": 90}), "E133", ()),
        (lambda page: related(page, box("n", rle=[1, 2, 3])), "E133", ()),
        (lambda page: results(page).append({"type": "choices", "value": {"choices": ["good"]}}), "W134", ()),
    ],
)
def test_label_studio_new_region_is_read_or_reported(
    tmp_path: Path, change: Change, code: str, boxes: tuple[Any, ...]
) -> None:
    data = edited(tmp_path, "label-studio", change)
    assert len(data.usable().posts) == 2 and listed(data) == ([code] if code else [])
    found = first(data).entities[1].boxes or ()
    assert [value for box in found for value in box] == pytest.approx(
        [value for box in boxes for value in box], abs=0.1
    )
    assert all("t1" in problem.where for problem in data.problems if problem.code[-3:] == "133")


def test_label_studio_changed_labels_and_mentions_are_read(tmp_path: Path) -> None:
    def change(page: Any) -> None:
        span = {"start": 4, "end": 7, "text": "met", "labels": ["sports_team"]}
        results(page)[:] = [item for item in results(page) if item.get("id") != "e0"]
        next(item for item in results(page) if item.get("id") == "e1")["value"]["labels"] = ["ORG"]
        results(page).append({"id": "Zx", "type": "labels", "value": span})

    data = edited(tmp_path, "label-studio", change)
    assert [(e.text, e.label, e.fine) for e in first(data).entities] == [
        ("met", "ORG", "sports_team"),
        ("Bob", "ORG", None),
    ]
    assert listed(data) == ["E133"]  # the box of the deleted mention


@pytest.mark.parametrize(
    ("change", "code", "what"),
    [
        (lambda page: page[1].update(annotations=[]), "W135", "is not annotated"),
        (lambda page: page[1].pop("annotations"), "W135", "is not annotated"),
        (lambda page: page[1].update(annotations=[], predictions=[{"result": []}]), "W135", "predictions alone"),
        (lambda page: page[1]["annotations"][0].update(was_cancelled=True), "W135", "was skipped"),
        (lambda page: page[1].pop("data"), "E131", "JSON-MIN"),
        (lambda page: page.__setitem__(1, 5), "E131", "task"),
        (lambda page: page[1]["data"].update(namepin={"id": "t2", "text": 5, "entities": []}), "E131", "text"),
        (lambda page: page.append(page[1]), "E131", "occurs twice"),
    ],
)
def test_label_studio_with_unread_task_reports_number(tmp_path: Path, change: Change, code: str, what: str) -> None:
    data = edited(tmp_path, "label-studio", change)
    (problem,) = (problem for problem in data.usable().problems if problem.code != "W130")
    assert problem.code == code and what in problem.what and "task number" in problem.where
    assert first(data).entities[0].boxes == ((10, 10, 30, 40),)


def test_label_studio_reads_ground_truth_else_latest_annotation(tmp_path: Path) -> None:
    def change(page: Any, **marks: Any) -> None:
        other = {"result": [], "updated_at": "2026-01-02T00:00:00Z"}
        page[0]["annotations"] = [{**page[0]["annotations"][0], "updated_at": "2026-01-01T00:00:00Z", **marks}, other]

    assert listed(edited(tmp_path / "a", "label-studio", change)) == ["W133", "W134"]
    truth = edited(tmp_path / "b", "label-studio", lambda page: change(page, ground_truth=True))
    assert first(truth).entities[0].boxes and listed(truth) == ["W133"]


@pytest.mark.parametrize(
    ("address", "image"),
    [
        ("/data/local-files/?d=a/b%20c.jpg", "a/b c.jpg"),
        ("/data/upload/3/1a2b3c4d-x%20y.jpg", "x y.jpg"),
        ("a/b.jpg", "a/b.jpg"),
        ("https://example.org/a.jpg", None),
        ("s3://bucket/a.jpg", None),
    ],
)
def test_label_studio_task_without_key_uses_its_own_id(tmp_path: Path, address: str, image: str | None) -> None:
    span = {"start": 2, "end": 5, "text": "Ada", "labels": ["Person"]}  # JavaScript counts the emoji as two
    result = [{"id": "x", "type": "labels", "value": {**span, "start": 3, "end": 6}}]
    task = {"id": 7, "data": {"text": "\U0001f600 Ada", "image": address}, "annotations": [{"result": result}]}
    (tmp_path / "dev.label-studio.json").write_text(json.dumps([task]))
    data = READERS["label-studio"](tmp_path, "dev").usable()
    (post,) = data.posts
    assert (post.post.id, post.post.image) == ("7", image and str(tmp_path / image))
    assert [(e.text, e.label) for e in post.entities] == [("Ada", "PER")]
    assert [problem.code for problem in data.problems] == ["W130"]


@pytest.mark.parametrize("form", FILES)
def test_annotation_tool_split_is_detected_checked_and_streamed(tmp_path: Path, form: str) -> None:
    data = edited(tmp_path, form, lambda page: None)
    root = tmp_path / "tool"
    assert detect(root) == form and check_folder(root).splits["dev"].boxes == 1
    assert [post for _, post in POSTS[form](root, "dev")] == [gold.post for gold in data.posts]


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("content", ["{", "[]", "{}", "5", "[5]", '{"images": 5}', '{"shapes": []}', "[" * 100_000])
def test_annotation_tool_file_with_other_content_raises_e131_or_e139(tmp_path: Path, form: str, content: str) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / FILES[form]).write_text(content)
    with pytest.raises(NamepinError, match="E13[19]"):
        READERS[form](tmp_path, "dev").usable()


def test_labelme_with_one_bad_file_keeps_other_posts(tmp_path: Path) -> None:
    edited(tmp_path, "labelme", lambda page: None)
    for content in ("{", "{}", '{"shapes": []}', '{"shapes": [], "namepin": 5}'):
        (tmp_path / "tool" / "dev" / "bad.json").write_text(content)
        data = READERS["labelme"](tmp_path / "tool", "dev").usable()
        assert len(data.posts) == 2 and listed(data) == ["E131"]
        assert next(p for p in data.problems if p.code == "E131").where.endswith("bad.json")


def test_region_of_mask_without_png_raises_value_error() -> None:
    with pytest.raises(ValueError, match="not a PNG"):
        region_of({"shape_type": "mask", "mask": "aaaa", "points": [[0, 0], [1, 1]]}, (8, 10))
    with pytest.raises(ValueError, match="not a PNG"):
        region_of({"shape_type": "mask", "points": [[0, 0], [1, 1]]}, (8, 10))
