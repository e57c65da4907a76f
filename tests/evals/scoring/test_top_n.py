"""Table II's measure: against gold boxes themselves, by hand, and with bad files."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from namepin.agent.cli.main import main
from namepin.evals.datasets.gold import Dataset, GoldEntity, GoldPost
from namepin.evals.run import load_dataset
from namepin.evals.scoring.top_n import read_boxes, top_n
from namepin.tools.errors import NamepinError
from namepin.tools.types import Post

ENTITIES = (
    GoldEntity("Ann", (0, 3), (0, 1), "PER", boxes=((0, 0, 10, 10), (20, 0, 30, 10))),
    GoldEntity("Bo", (4, 6), (1, 2), "PER", boxes=((50, 50, 60, 60),)),
    GoldEntity("Cy", (7, 9), (2, 3), "PER", boxes=()),
)
POST = GoldPost(Post(id="p", text="Ann Bo Cy", tokens=("Ann", "Bo", "Cy")), ENTITIES)
DATA = Dataset(name="gmner", split="dev", scheme="coarse4", release="made", sha256="0", posts=(POST,))
BOXES = [(90.0, 90.0, 99.0, 99.0), (20.0, 0.0, 30.0, 8.0), (50.0, 50.0, 60.0, 55.0)]


def test_top_n_precision_equals_hand_computed_values() -> None:
    found = top_n(DATA, {"p": BOXES}, [1, 2, 3], 0.5)
    assert (found.entities, found.precision) == (2, {1: 0.0, 2: 0.5, 3: 1.0})
    assert top_n(DATA, {"p": BOXES}, [3], 0.51).precision == {3: 0.5}, "an IoU of exactly 0.5 fits at 0.5 only"
    assert top_n(DATA, {}, [10], 0.5).model_dump(include={"without", "precision"}) == {
        "without": 2,
        "precision": {10: 0.0},
    }


@given(st.lists(st.sampled_from(BOXES), max_size=8))
def test_top_n_precision_never_decreases_with_more_boxes(boxes: list[tuple[float, float, float, float]]) -> None:
    values = list(top_n(DATA, {"p": boxes}, [1, 2, 4, 8], 0.5).precision.values())
    assert values == sorted(values)


def test_read_boxes_orders_boxes_by_score(tmp_path: Path) -> None:
    rows = [{"id": "p", "boxes": [[*box, score] for box, score in zip(BOXES, (0.1, 0.2, 0.9), strict=True)]}]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read_boxes(tmp_path / "b.jsonl") == {"p": BOXES[::-1]}


@pytest.mark.parametrize(
    "line",
    ["{", "7", '{"id": "p"}', '{"id": "p", "boxes": [[1, 2, 3]]}', '{"id": "p", "boxes": [[5, 5, 1, 1]]}',
     '{"id": "p", "boxes": [[NaN, 0, 1, 1]]}', '{"id": "p", "boxes": []}\n{"id": "p", "boxes": []}'],
)  # fmt: skip
def test_read_boxes_of_invalid_or_missing_file_raises_e134_or_e130(tmp_path: Path, line: str) -> None:
    (tmp_path / "b.jsonl").write_text(line)
    with pytest.raises(NamepinError, match="E134"):
        read_boxes(tmp_path / "b.jsonl")
    with pytest.raises(NamepinError, match="E130"):
        read_boxes(tmp_path / "none.jsonl")


@pytest.mark.data
def test_topn_of_gold_boxes_is_one(data_root: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = load_dataset("gmner", data_root / "gmner", "dev")
    rows = [{"id": g.post.id, "boxes": [list(b) for e in g.entities for b in e.boxes or ()]} for g in data.posts]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "t.json"
    arguments = ["data", "topn", str(data_root / "gmner"), "--boxes", str(tmp_path / "b.jsonl"), "--json", str(out)]
    assert main([*arguments, "--top", "50"]) == 0
    assert json.loads(out.read_text())["precision"] == {"50": 1.0} and json.loads(out.read_text())["entities"] == 991
    assert main([*arguments, "--top", "x"]) == 2
