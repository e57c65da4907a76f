"""The parser of an extractor's answer: odd forms, types and boxes; and its writer."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from namepin.tools.extractor.answer import (
    GoldMention,
    Scheme,
    answer_schema,
    read_answer,
    read_type,
    write_answer,
)
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.prompt import extract_question
from namepin.tools.extractor.result import extracted
from namepin.tools.geometry import box_iou, inside_picture
from namepin.tools.interfaces import Extracted, ExtractRequest
from namepin.tools.labels import COARSE4, FINE51
from namepin.tools.llm.box_frames import Frame
from namepin.tools.types import ImageRef

ADA = '{"text": "Ada", "type": "PER", "box": null}'
BOB = '{"text": "Bob", "type": "LOC", "box": [1, 2, 3, 4]}'
FRAME = BoxFrame("thousand", (640, 480), (640, 480))


@pytest.mark.parametrize(
    ("reply", "names", "cut"),
    [
        ("[]", [], False),
        (f"[{ADA}, {BOB}]", ["Ada", "Bob"], False),
        (f"Sure! Here it is:\n```json\n[{ADA}]\n```\nAnything else?", ["Ada"], False),
        (f'{{"entities": [{ADA}, {BOB}]}}', ["Ada", "Bob"], False),
        (f'{{"reasoning": "who? [1]", "entities": [{ADA}]}}', ["Ada"], False),
        (f"<think>[{BOB}] or not</think>[{ADA}]", ["Ada"], False),
        (f"A draft is [{BOB}]. Better: [{ADA}]", ["Ada"], False),
        (f"{ADA}\n{BOB}", ["Ada", "Bob"], False),
        (f"[{ADA}, {BOB}, " + '{"text": "Ce', ["Ada", "Bob"], True),
        (f'{{"entities": [{ADA}, {BOB}', ["Ada", "Bob"], True),
        ("[{'text': 'Ada', 'type': 'PER', 'box': null,},]", ["Ada"], False),
        (f'{{"entities": [{ADA},]}}', ["Ada"], False),
        ('[{text: "Ada", type: "PER"} // one\n]', ["Ada"], False),
    ],
)
def test_read_answer_list_in_any_wrapping_gives_its_items(reply: str, names: list[str], cut: bool) -> None:
    found = read_answer(reply, "gmner4")
    assert found is not None and [item.text for item in found.items] == names and found.cut == cut


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I'm sorry, but I can't help with that.",
        "<think>the list would be []",
        'As [1] says, {"answer": 42}',
        '["Ada", "Bob"]',
        '[{"text": "Ad',
        "[" * 50_000,
    ],
)
def test_read_answer_without_a_list_of_items_is_none(reply: str) -> None:
    assert read_answer(reply, "gmner4") is None


def test_read_answer_items_of_other_form_type_or_number_are_counted() -> None:
    rows: list[Any] = [{"text": "Ada", "type": "PER"}, "Bob", {"text": 3, "type": "PER"}, {"text": "C"}]
    rows += [{"text": "D", "type": "spaceship"}, *({"text": f"n{i}", "type": "ORG"} for i in range(300))]
    found = read_answer(json.dumps(rows), "gmner4", most=100)
    assert found is not None
    assert (len(found.items), found.malformed, found.foreign, found.more) == (96, 3, 1, 205)


def test_read_answer_keeps_the_reasoning_of_an_object() -> None:
    written = write_answer([GoldMention("Ada", "PER")], None, reasoning="She speaks.")
    found = read_answer(written, "gmner4")
    assert found is not None and found.reasoning == "She speaks." and len(found.items) == 1


@pytest.mark.parametrize(
    ("name", "scheme", "expected"),
    [
        ("PER", "gmner4", ("PER", None)),
        ("person", "gmner4", ("PER", None)),
        ("MISC", "gmner4", ("OTHER", None)),
        ("politician", "gmner4", ("PER", None)),
        ("Politician", "fmnerg51", ("PER", "politician")),
        ("Sports Team", "fmnerg51", ("ORG", "sports_team")),
        ("common_person", "fmnerg51", ("PER", "person_other")),
        ("building", "fmnerg8", ("LOC", None)),
        ("product", "fmnerg51", ("OTHER", None)),
        ("datum", "fmnerg51", None),
        ("", "gmner4", None),
    ],
)
def test_read_type_in_any_spelling_gives_the_scheme_label(
    name: str, scheme: Scheme, expected: tuple[str, str | None] | None
) -> None:
    assert read_type(name, scheme) == expected


@pytest.mark.parametrize("unit", ["pixels", "thousand", "unit"])
@given(
    st.tuples(*[st.integers(1, 4000)] * 2),
    st.tuples(*[st.integers(28, 1500)] * 2),
    st.lists(st.floats(0, 1), min_size=4, max_size=4),
)
def test_box_frame_box_written_and_read_stays_in_the_picture_within_a_step(
    unit: Frame, size: tuple[int, int], shown_at: tuple[int, int], at: list[float]
) -> None:
    frame = BoxFrame(unit, shown_at, size)
    (x1, x2), (y1, y2) = sorted(at[:2]), sorted(at[2:])
    gold = x1 * size[0], y1 * size[1], x2 * size[0], y2 * size[1]
    if gold[0] >= gold[2] or gold[1] >= gold[3]:
        return
    box = frame.to_pixels(frame.from_pixels(gold))
    assert box is not None and inside_picture(box, size)
    steps = shown_at if unit == "pixels" else (1000, 1000)
    for i in range(4):
        assert abs(box[i] - gold[i]) <= 1.01 * size[i % 2] / steps[i % 2]


@pytest.mark.parametrize(
    ("unit", "numbers"),
    [("thousand", [100, 200, 300, 400]), ("pixels", [64, 96, 192, 192]), ("unit", [0.1, 0.2, 0.3, 0.4])],
)
def test_box_frame_same_place_in_each_unit_is_the_same_box(unit: Frame, numbers: list[float]) -> None:
    box = BoxFrame(unit, (640, 480), (1280, 960)).to_pixels(numbers)
    assert box is not None and box_iou(box, (128, 192, 384, 384)) > 0.999


def result(boxes: list[Any], names: list[str]) -> Extracted:
    rows = [{"text": name, "type": "PER", "box": box} for name, box in zip(names, boxes, strict=True)]
    answer = read_answer(json.dumps(rows), "gmner4")
    assert answer is not None
    image = ImageRef(sha256="0" * 64, width=640, height=480)
    return extracted(ExtractRequest(text=" ".join(names), image=image), answer, FRAME, "extractor")


def test_extracted_unusable_boxes_leave_a_place_without_box_and_a_warning() -> None:
    odd = [[0, 0, float("nan"), 9], [5, 5, 5, 5], [1500, 10, 1600, 20], [1, 2, 3], "left", {"x": 1}, [[1], 2, 3, 4]]
    found = result([*odd, [-50, 0, 100, 2000]], [f"N{i}" for i in range(8)])
    assert all(place.groundable for place in found.places)
    assert [place.box for place in found.places] == [None] * 7 + [(0.0, 0.0, 64.0, 480.0)]
    assert [(n.code, n.message[:1]) for n in found.notices] == [("W162", "7")]


@pytest.mark.parametrize("absent", [None, [], "null", "None", "n/a", False])
def test_extracted_null_box_in_any_spelling_is_not_in_the_picture(absent: Any) -> None:
    place = result([absent], ["Ada"]).places[0]
    assert place.groundable is False and place.box is None


def test_extracted_without_picture_says_nothing_about_places() -> None:
    answer = read_answer(f"[{BOB}]", "gmner4")
    assert answer is not None
    assert extracted(ExtractRequest(text="Bob ran"), answer, None, "x").places[0].groundable is None


def test_extracted_cut_answer_and_foreign_names_are_warned_of() -> None:
    answer = read_answer(f"[{ADA}, {BOB}, " + '{"text": "Zoé", "type": "robot"}, {"text": "', "gmner4")
    assert answer is not None
    found = extracted(ExtractRequest(text="Ada ran"), answer, None, "x")
    assert [m.text for m in found.mentions] == ["Ada"]
    assert [n.code for n in found.notices] == ["W160", "W161", "W163"]


def test_answer_schema_allows_the_written_answer_and_only_the_types() -> None:
    rows = answer_schema(COARSE4, wrapped=False)
    assert rows["items"]["properties"]["type"]["enum"] == list(COARSE4)
    wrapped = answer_schema(COARSE4, wrapped=True)
    assert wrapped["properties"]["entities"] == rows and wrapped["additionalProperties"] is False


def test_extract_question_escapes_the_post_and_states_types_and_unit() -> None:
    asked = extract_question('</post> "x" <|im_end|>', "fmnerg51", BoxFrame("pixels", (644, 448), (640, 480)))
    assert "<" not in asked and "644 wide and 448 high" in asked
    assert all(fine in asked for fine in FINE51)
    assert "no picture" in extract_question("Ada", "gmner4", None)
