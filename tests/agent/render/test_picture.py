"""The annotated picture: labels keep off boxes and off one another, at any size and in any script."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from namepin.agent.render import picture as drawing
from namepin.agent.render.fonts import lettering
from namepin.agent.render.layout import place_label
from namepin.agent.render.picture import annotate
from namepin.agent.render.view import COLOURS
from namepin.tools.geometry import Rectangle, shared_area
from support.agent_samples import TEXT, entity, full, placed, post_view

coordinate = st.integers(0, 600)
boxes = st.tuples(coordinate, coordinate, st.integers(5, 200), st.integers(5, 200)).map(
    lambda b: (float(b[0]), float(b[1]), float(b[0] + b[2]), float(b[1] + b[3]))
)
BOUNDS = (0.0, 0.0, 900.0, 900.0)


@given(boxes, st.lists(boxes, max_size=3))
def test_place_label_stays_in_bounds_and_outside_own_box(own: Rectangle, others: list[Rectangle]) -> None:
    rect = place_label((80.0, 20.0), own, others, [], BOUNDS, 3.0)
    assert rect[0] >= 0 and rect[1] >= 0 and rect[2] <= 900 and rect[3] <= 900
    assert (rect[2] - rect[0], rect[3] - rect[1]) == (80.0, 20.0)
    if not others:
        assert shared_area(rect, own) == 0


def test_place_label_avoids_neighbours_and_earlier_labels() -> None:
    own, above = (100.0, 100.0, 200.0, 200.0), (60.0, 20.0, 260.0, 98.0)
    first = place_label((80.0, 20.0), own, [above], [], BOUNDS, 2.0)
    assert first[1] > 200, "below, since another box is above"
    second = place_label((80.0, 20.0), own, [above], [first], BOUNDS, 2.0)
    assert shared_area(first, second) == 0


def test_place_label_with_full_size_box_lies_inside() -> None:
    rect = place_label((80.0, 20.0), BOUNDS, [], [], BOUNDS, 2.0)
    assert rect[0] >= 0 and rect[3] <= 900


@pytest.mark.parametrize("size", [(1, 1), (3, 900), (900, 3), (40, 30), (512, 512), (5000, 200), (3000, 2400)])
def test_annotate_with_any_picture_size_returns_bounded_size(size: tuple[int, int]) -> None:
    item = post_view(TEXT, placed_all(size), size=size)
    assert item.picture is not None
    drawn = annotate(item.picture, item.extraction)
    assert 420 <= drawn.width <= 1600
    assert drawn.height <= 1900
    assert drawn.mode == "RGB"


def placed_all(size: tuple[int, int]) -> object:
    return placed(TEXT, "Ada Example", (0.0, 0.0, float(size[0]), float(size[1])), mask=None)


def test_annotate_draws_frames_and_masks_in_entity_colours() -> None:
    item = full()
    assert item.picture is not None
    before = item.picture.copy()
    drawn = np.asarray(annotate(item.picture, item.extraction)).reshape(-1, 3)
    assert np.array_equal(np.asarray(before), np.asarray(item.picture)), "the picture itself is not touched"
    for colour in COLOURS[:2]:
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
        assert (drawn == wanted).all(1).sum() > 500, "frame, outline and label"
        veil = np.round(0.38 * wanted + 0.62 * np.array([120, 120, 120]))
        assert (np.abs(drawn - veil) <= 2).all(1).sum() > 5000, "translucent mask"


def test_annotate_labels_overlap_no_box(monkeypatch: pytest.MonkeyPatch) -> None:
    placed_at: list[tuple[tuple[float, ...], list[tuple[float, ...]]]] = []
    real = drawing.place_label

    def watched(size, own, others, labels, bounds, gap):  # type: ignore[no-untyped-def]
        rect = real(size, own, others, labels, bounds, gap)
        placed_at.append((rect, [own, *others, *labels]))
        return rect

    monkeypatch.setattr(drawing, "place_label", watched)
    item = full()
    assert item.picture is not None
    annotate(item.picture, item.extraction)
    assert len(placed_at) == 2
    for rect, taken in placed_at:
        assert all(shared_area(rect, other) == 0 for other in taken)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["القاهرة", "東京タワー", "Δelphi", "🚀🚀", "Zoë", "नमस्ते", "\u202e\x00"])
def test_annotate_with_names_of_any_script_returns_drawing(name: str) -> None:
    item = post_view(name, placed(name, name, (10.0, 10.0, 100.0, 100.0)))
    assert item.picture is not None
    assert annotate(item.picture, item.extraction).width == 640


def test_lettering_drops_letters_without_font() -> None:
    text, _ = lettering("\U0001f680 rocket \U0001faa9", 20)
    assert text == "rocket"
    assert lettering("\U00013000", 20)[0] == "", "hieroglyphs: the number stands alone"


def test_annotate_with_many_names_bounds_legend_height() -> None:
    text = " ".join(f"Name{i}" for i in range(40))
    item = post_view(text, *(entity(text, f"Name{i}") for i in range(10, 40)))
    assert item.picture is not None
    assert annotate(item.picture, item.extraction).height < 1000


def test_annotate_twice_gives_identical_bytes() -> None:
    item = full()
    assert item.picture is not None
    one, two = (annotate(item.picture, item.extraction) for _ in range(2))
    assert one.tobytes() == two.tobytes()


def test_annotate_says_below_found_name_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    real = drawing.lettering
    monkeypatch.setattr(
        drawing, "lettering", lambda text, *more, **how: written.append(text) or real(text, *more, **how)
    )
    item = full()
    found, other, place = item.extraction.entities
    place = place.model_copy(update={"evidence": "the name is not read"})
    heights = []
    for entities in ((found, other, place), (found.model_copy(update={"evidence": None}), other, place)):
        assert item.picture is not None
        heights.append(annotate(item.picture, item.extraction.model_copy(update={"entities": entities})).height)
    assert heights[0] > heights[1], "a line of its own"
    assert written.count("the larger of two faces") == 1 and "the name is not read" not in written
