"""Masks to polygons and back: exact for whatever pixels, holes, islands in holes, corners that touch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.ndimage import gaussian_filter

from namepin.tools.images.polygons import MAX_POINTS, mask_of, polygons_of
from namepin.tools.types import Mask


def iou(a: "np.ndarray", b: "np.ndarray") -> float:  # type: ignore[type-arg]
    union = (a | b).sum()
    return float((a & b).sum() / union) if union else 1.0


@settings(max_examples=200)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_polygons_of_any_mask_roundtrip_exactly(array: "np.ndarray") -> None:  # type: ignore[type-arg]
    polygons = polygons_of(Mask.from_array(array))
    if not array.any():
        assert polygons == []
    else:
        height, width = array.shape
        assert iou(mask_of(polygons, (height, width)).to_array(), array) == 1.0


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(20, 120), st.integers(20, 120))
def test_polygons_of_blobs_with_holes_roundtrip(seed: int, height: int, width: int) -> None:
    field = gaussian_filter(np.random.default_rng(seed).random((height, width)), 3)
    blob = field > np.median(field)
    assert iou(mask_of(polygons_of(Mask.from_array(blob)), (height, width)).to_array(), blob) >= 0.99


def test_polygons_of_one_pixel_have_four_corners() -> None:
    array = np.zeros((3, 3), dtype=bool)
    array[1, 1] = True
    assert polygons_of(Mask.from_array(array)) == [[(1, 1), (2, 1), (2, 2), (1, 2)]]


def test_mask_of_points_beyond_picture_clips_them() -> None:
    assert mask_of([[(-50, -50), (500, -50), (500, 500), (-50, 500)]], (4, 6)).to_array().all()


@pytest.mark.parametrize(
    "polygons",
    [[], [[(0, 0), (1, 1)]], [[(0, 0), (1, 1), (float("nan"), 2)]], [[(0.0, 0.0)] * (MAX_POINTS + 1)]],
)
def test_mask_of_invalid_polygon_raises_value_error(polygons: list[list[tuple[float, float]]]) -> None:
    with pytest.raises(ValueError, match="polygon"):
        mask_of(polygons, (4, 4))
