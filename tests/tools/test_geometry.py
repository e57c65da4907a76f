"""Overlap of boxes, masks and regions, and their parts inside a picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from namepin.tools.geometry import (
    Rectangle,
    box_area,
    box_iou,
    clip_box,
    clip_point,
    holds_point,
    inside_picture,
    mask_iou,
    region_iou,
    shared_area,
)
from namepin.tools.types import Mask

EDGE = st.floats(-50, 150)
ANY = st.tuples(EDGE, EDGE, EDGE, EDGE)
WHOLE = st.integers(0, 9)
PIXELS = st.tuples(WHOLE, WHOLE, WHOLE, WHOLE).filter(lambda b: b[0] < b[2] and b[1] < b[3])


def region(box: tuple[int, int, int, int]) -> "np.ndarray[tuple[int, int], np.dtype[np.bool_]]":
    array = np.zeros((10, 12), dtype=bool)
    array[box[1] : box[3], box[0] : box[2]] = True
    return array


@given(PIXELS, PIXELS)
def test_box_iou_equals_mask_iou_and_region_iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> None:
    counted = region_iou(region(a), region(b))
    assert box_iou(a, b) == box_iou(b, a) == pytest.approx(counted)
    assert mask_iou(Mask.from_array(region(a)), Mask.from_array(region(b))) == pytest.approx(counted)
    assert shared_area(a, b) == (region(a) & region(b)).sum() and box_area(a) == region(a).sum()


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1),
        ((0, 0, 5, 10), (0, 0, 10, 10), 0.5),
        ((0, 0, 1, 1), (1, 0, 2, 1), 0),
        ((5, 5, 5, 5), (0, 0, 10, 10), 0),
        ((9, 9, 1, 1), (0, 0, 10, 10), 0),
        ((0, 0, 0, 0), (0, 0, 0, 0), 0),
    ],
)
def test_box_iou_of_empty_and_touching_boxes_is_zero(a: Rectangle, b: Rectangle, iou: float) -> None:
    assert box_iou(a, b) == iou


def test_mask_iou_of_two_sizes_is_zero() -> None:
    assert mask_iou(Mask.from_array(np.ones((4, 4), bool)), Mask.from_array(np.ones((4, 5), bool))) == 0


def test_region_iou_of_empty_regions_is_zero() -> None:
    assert region_iou(np.zeros((2, 2), bool), np.zeros((2, 2), bool)) == 0


@given(ANY)
def test_clip_box_result_lies_inside_picture(box: Rectangle) -> None:
    clipped = clip_box(box, (100, 80))
    if clipped is None:
        assert shared_area(box, (0, 0, 100, 80)) == 0
    else:
        assert inside_picture(clipped, (100, 80)) and box_area(clipped) == pytest.approx(
            shared_area(box, (0, 0, 100, 80))
        )


@given(st.integers(-9, 200), st.integers(-9, 200))
def test_clip_point_result_is_pixel_of_picture(x: int, y: int) -> None:
    point = clip_point((x, y), (100, 80))
    assert holds_point((0, 0, 100, 80), point)
    assert point == (x, y) or not holds_point((0, 0, 100, 80), (x, y))


def test_clip_box_beyond_picture_is_cut_or_none() -> None:
    assert clip_box((-5, -5, 5, 5), (10, 10)) == (0, 0, 5, 5)
    assert clip_box((20, 20, 30, 30), (10, 10)) is None and clip_box((5, 5, 2, 8), (10, 10)) is None


def test_inside_picture_with_tolerance_accepts_small_excess() -> None:
    assert inside_picture((-1, 0, 101, 80), (100, 80), 1) and not inside_picture((-1, 0, 101, 80), (100, 80))
