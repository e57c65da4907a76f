"""Statements against a truth: right, wrong, or openly unknown; pictures that are drawn, shipped or not at hand."""

from pathlib import Path

import pytest
from PIL import Image

from namepin.agent.workflows.statements import EXAMPLES, Statement, Truth, judge, picture_of, table
from namepin.tools.jsonl import read_lines
from namepin.tools.labels import FINE_TO_COARSE4
from namepin.tools.types import Entity
from support.agent_samples import TEXT, entity, placed, post_view

ADA = {"Ada Example": Truth("PER", "athlete", True)}


@pytest.mark.parametrize(
    ("found", "typed", "place"),
    [
        (placed(TEXT, "Ada Example", (10.0, 20.0, 120.0, 230.0)), "right", "right"),
        (entity(TEXT, "Ada Example", groundable=False), "right", "wrong"),
        (entity(TEXT, "Ada Example", groundable=None), "right", "unknown"),
        (entity(TEXT, "Ada Example", type_uncertain=True, groundable=False), "unknown", "wrong"),
        (entity(TEXT, "Ada Example", fine_label="actor"), "wrong", "unknown"),
        (entity(TEXT, "Ada Example", label="LOC", fine_label="city", type_uncertain=True), "wrong", "unknown"),
    ],
)
def test_statement_about_a_name_is_right_wrong_or_openly_unknown(found: Entity, typed: str, place: str) -> None:
    said = {one.about: one.verdict for one in judge(post_view(TEXT, found).extraction, ADA)}
    assert said == {"type": typed, "place": place}


def test_name_in_other_bounds_is_wrong_twice() -> None:
    said = list(judge(post_view(TEXT, entity(TEXT, "Ada")).extraction, ADA))
    assert [(one.name, one.said, one.verdict) for one in said] == [
        ("Ada Example", "not found", "wrong"),
        ("Ada", "found", "wrong"),
    ]


def test_table_counts_the_verdicts_and_marks_wrong_statements() -> None:
    said = [
        Statement("s1", "Ada", "type", "PER, actor", "wrong"),
        Statement("s1", "Ada", "place", "cannot tell", "unknown"),
        Statement("s2", "Bo", "name", "not found", "wrong"),
    ]
    lines = table(said).splitlines()
    assert "| type | 0 | 1 | 0 |" in lines and "| place | 0 | 0 | 1 |" in lines
    assert "| s1 | Ada | **PER, actor: wrong** | cannot tell: unknown |" in lines
    assert "| s2 | Bo | **not found: wrong** |  |" in lines


def test_posts_are_thirty_and_every_truth_is_about_a_name_of_its_text() -> None:
    rows = [line.parse_object() for line in read_lines(EXAMPLES / "statements.jsonl")]
    assert len({row["id"] for row in rows}) == len(rows) == 30
    for row in rows:
        for name, (label, fine, in_picture) in row["truth"].items():
            assert name in row["text"] and FINE_TO_COARSE4[fine] == label and isinstance(in_picture, bool)
        assert row["picture"].startswith("photo:") or picture_of(row["picture"], None) is not None


def test_photograph_that_is_not_at_hand_has_no_picture(tmp_path: Path) -> None:
    assert picture_of("photo:1", None) is None and picture_of("photo:1", tmp_path) is None
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "1.jpg")
    assert picture_of("photo:1", tmp_path) == tmp_path / "images" / "1.jpg"
    drawn = picture_of("draw:WELCOME|NASHVILLE", None)
    assert isinstance(drawn, Image.Image) and len(drawn.getcolors(1 << 24) or ()) > 2
