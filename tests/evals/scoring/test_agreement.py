"""Agreement of annotators: kappa against figures worked out by hand, pairing, files good and bad."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from namepin.agent.cli.main import main
from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost
from namepin.evals.datasets.masks import read_masks
from namepin.evals.scoring.agreement import Annotator, agreement, fleiss_kappa, read_annotator
from namepin.tools.errors import NamepinError
from namepin.tools.images.polygons import polygons_of
from namepin.tools.types import Mask, Post


def square(x: int, y: int, side: int = 10) -> Mask:
    array = np.zeros((40, 60), dtype=bool)
    array[y : y + side, x : x + side] = True
    return Mask.from_array(array)


def someone(where: str = "a", **posts: dict[str, list[Mask]]) -> Annotator:
    return Annotator(where, posts)


def gold(**posts: str) -> Dataset:
    found = []
    for name, text in posts.items():
        words, entities, at = text.split(), [], 0
        for i, word in enumerate(words):
            entities.append(GoldEntity(word, (at, at + len(word)), (i, i + 1), "PER"))
            at += len(word) + 1
        found.append(GoldPost(Post(id=name, text=text, tokens=tuple(words)), tuple(entities), where=name))
    return Dataset(name="smner", split="dev", scheme="coarse4", release="made", sha256="0", posts=tuple(found))


def test_fleiss_kappa_of_published_example_is_0_21() -> None:
    # Fleiss (1971) as worked on the statistic's usual example: 10 items, 14 raters, 5 categories, kappa 0.210.
    rows = ["0 0 0 0 14", "0 2 6 4 2", "0 0 3 5 6", "0 3 9 2 0", "2 2 8 1 1", "7 7 0 0 0", "3 2 6 3 0", "2 5 3 2 2",
            "6 5 2 1 0", "0 2 2 3 7"]  # fmt: skip
    assert fleiss_kappa([list(map(int, row.split())) for row in rows]) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_kappa_of_two_raters_equals_hand_computed_value() -> None:
    # 3 items "drawn" by both, 2 by neither, 1 by one: observed 5/6; drawn 7/12, not drawn 5/12: chance 74/144.
    votes = [(2, 0)] * 3 + [(0, 2)] * 2 + [(1, 1)]
    assert fleiss_kappa(votes) == pytest.approx((5 / 6 - 74 / 144) / (1 - 74 / 144))


@given(st.lists(st.sampled_from([(2, 0), (0, 2)]), min_size=2))
def test_fleiss_kappa_of_identical_raters_is_one_or_none(votes: list[tuple[int, int]]) -> None:
    assert fleiss_kappa(votes) == (None if len(set(votes)) == 1 else pytest.approx(1))


@pytest.mark.parametrize("votes", [[(1, 0)], [(2, 0), (2, 1)]])
def test_fleiss_kappa_with_unequal_raters_raises_value_error(votes: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="raters"):
        fleiss_kappa(votes)
    assert fleiss_kappa([]) is None


def test_agreement_of_identical_annotators_is_one() -> None:
    one = someone(p={"Anna": [square(0, 0), square(20, 20)]}, q={})
    found = agreement(one, one, gold(p="Anna Bob", q="Carla"))
    assert (found.kappa, found.paired.dice, found.paired.iou, found.all.iou) == (1.0, 1.0, 1.0, 1.0)
    assert (found.posts, found.items, found.consistent, found.problems) == (2, 4, 2, [])


def test_agreement_pairs_masks_of_name_for_best_sum() -> None:
    one, other = someone(p={"A": [square(0, 0), square(20, 0)]}), someone("b", p={"A": [square(21, 0), square(0, 1)]})
    found = agreement(one, other)
    assert found.paired.regions == 2 and found.paired.iou == pytest.approx(9 / 11)
    assert found.paired.dice == pytest.approx(0.9) and found.kappa is None


def test_agreement_counts_unmatched_masks_and_posts() -> None:
    one = someone(p={"A": [square(0, 0)], "B": [square(0, 0)]}, x={})
    other = someone("b", p={"A": [square(0, 0)], "B": [square(30, 20)], "C": [square(0, 0)]}, y={})
    found = agreement(one, other, gold(p="A B C D"))
    assert (found.paired.regions, found.all.regions, found.all.iou) == (1, 4, 0.25)
    assert found.items == 5, "A both; B twice one; C one; D neither"
    assert found.only == {"a": ["x"], "b": ["y"]}


def test_agreement_without_common_post_raises_e139() -> None:
    with pytest.raises(NamepinError, match="E139"):
        agreement(someone(p={}), someone("b", q={}))


def labelme(folder: Path, name: str, shapes: Any, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    page = {"imageHeight": 40, "imageWidth": 60, "shapes": shapes} | fields
    (folder / f"{name}.json").write_text(json.dumps(page))
    return folder / f"{name}.json"


def polygon(label: str, mask: Mask, **fields: Any) -> dict[str, Any]:
    return {"label": label, "points": [list(p) for p in polygons_of(mask)[0]], "shape_type": "polygon"} | fields


def test_data_agreement_command_prints_and_writes_iou(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    labelme(tmp_path / "a", "p", [polygon("Anna", square(0, 0))])
    masks = [square(0, 1).model_dump(mode="json")]
    row = {"id": "p", "text": "Anna", "entities": [{"start": 0, "end": 4, "masks": masks}]}
    (tmp_path / "b.jsonl").write_text(json.dumps(row))
    out = tmp_path / "agreement.json"
    assert main(["data", "agreement", str(tmp_path / "a"), str(tmp_path / "b.jsonl"), "--json", str(out)]) == 0
    assert json.loads(out.read_text())["paired"]["iou"] == pytest.approx(9 / 11)
    assert "0.818" in capfd.readouterr().out
    assert main(["data", "agreement", str(tmp_path / "a"), str(tmp_path / "none")]) == 2


def test_read_masks_of_groups_rectangles_and_circles_returns_pixel_counts(tmp_path: Path) -> None:
    shapes = [
        polygon("Anna", square(0, 0), group_id=1),
        polygon("Anna", square(20, 20), group_id=1),
        polygon("Anna", square(40, 0)),
        {"label": "Bob", "points": [[5, 5], [15, 25]], "shape_type": "rectangle"},
        {"label": "Bob", "points": [[30, 20], [30, 30]], "shape_type": "circle"},
    ]
    masks, problems = read_masks(labelme(tmp_path, "p", shapes))
    assert problems == [] and [int(m.to_array().sum()) for m in masks["Anna"]] == [200, 100]
    assert int(masks["Bob"][0].to_array().sum()) == 200
    assert int(masks["Bob"][1].to_array().sum()) == pytest.approx(314, abs=12)


@pytest.mark.parametrize(
    "shape",
    [
        {"label": "A", "points": [[1, 1]], "shape_type": "point"},
        {"label": "A", "points": [[1, 1], [2, 2], [3, 3]], "shape_type": "line"},
        {"label": "A", "points": [[1, 1], [2, 2]]},
        {"label": "A", "points": [[1, 1], [2, "x"], [3, 3]]},
        {"label": "A", "points": [[1, 1], [2], [3, 3]]},
        {"label": "A", "points": [[1, 1], [float("nan"), 2], [3, 3]]},
        {"label": "A"},
        {"points": [[1, 1], [2, 2], [3, 9]]},
        7,
    ],
)
def test_read_masks_with_unusable_shape_reports_it_and_keeps_others(tmp_path: Path, shape: Any) -> None:
    masks, problems = read_masks(labelme(tmp_path, "p", [shape, polygon("Anna", square(0, 0))]))
    assert len(problems) == 1 and problems[0].code == "E133" and list(masks) == ["Anna"]


@pytest.mark.parametrize(
    "fields",
    [{"imageHeight": 10**9}, {"imageWidth": 0}, {"imageHeight": "x"}, {"imageHeight": 99999, "imageWidth": 99999},
     {"shapes": 7}, {"shapes": [{}] * 20_000}, {"imageHeight": 1e400}],
)  # fmt: skip
def test_read_masks_of_hostile_file_returns_one_problem(tmp_path: Path, fields: dict[str, Any]) -> None:
    masks, problems = read_masks(labelme(tmp_path, "p", fields.pop("shapes", []), **fields))
    assert masks == {} and len(problems) == 1


def test_read_masks_of_deeply_nested_json_returns_one_problem(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text("[" * 200_000)
    assert len(read_masks(tmp_path / "p.json")[1]) == 1


def test_read_masks_with_shape_beyond_picture_clips_it(tmp_path: Path) -> None:
    shape = {"label": "A", "points": [[-5, -5], [1e9, -5], [1e9, 10], [-5, 10]]}
    masks, problems = read_masks(labelme(tmp_path, "p", [shape]))
    assert int(masks["A"][0].to_array().sum()) == 600 and "leaves" in problems[0].what


@pytest.mark.parametrize(
    "line", ["{", "7", '{"id": "p"}', '{"id": "p", "entities": [{"mask": {"size": [1, 1], "counts": "x"}}]}']
)
def test_read_annotator_with_bad_row_raises_e134(tmp_path: Path, line: str) -> None:
    (tmp_path / "b.jsonl").write_text(line)
    with pytest.raises(NamepinError, match="E134"):
        read_annotator(tmp_path / "b.jsonl")
