"""Equation 11 and Grad-CAM against loops, and the way from a map to a point in the picture."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from namepin.tools.images import heatmap as heat
from namepin.tools.models.gradcam import attention_map, feature_map, score_to_trace


def some_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    attention, gradient = torch.rand(2, 3, 6, 5), torch.randn(2, 3, 6, 5)
    return attention, gradient, torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0]])


@pytest.mark.parametrize(("tokens", "first", "last", "divided"), [("inner_mean", 1, 1, True), ("sum", 0, 0, False)])
def test_attention_map_equals_equation_11(tokens: str, first: int, last: int, divided: bool) -> None:
    attention, gradient, mask = some_batch()
    found = attention_map(attention, gradient, mask, tokens=tokens)  # type: ignore[arg-type]
    for row, length in enumerate((6, 4)):
        for patch in range(4):
            terms = [
                float(attention[row, h, t, patch + 1]) * max(0.0, float(gradient[row, h, t, patch + 1])) / 3
                for h in range(3)
                for t in range(first, length - last)
            ]
            expected = sum(terms) / (length - 2 if divided else 1)
            assert float(found[row, patch]) == pytest.approx(expected, rel=1e-5)


def test_attention_map_ignores_padding_and_class_token() -> None:
    attention, gradient, mask = some_batch()
    expected = attention_map(attention, gradient, mask)
    attention[1, :, 4:] = 7
    attention[..., 0] = 7
    assert torch.equal(attention_map(attention, gradient, mask), expected)


def test_attention_map_of_max_heads_takes_strongest_head() -> None:
    attention, gradient, mask = some_batch()
    weighted = (attention * gradient.clamp(min=0))[0, :, 1:-1, 1:]
    found = attention_map(attention, gradient, mask, heads="max")
    assert torch.allclose(found[0], weighted.amax(dim=0).mean(dim=0))


def test_attention_map_of_text_without_inner_tokens_is_empty() -> None:
    attention, gradient, _ = some_batch()
    assert not attention_map(attention[:, :, :2], gradient[:, :, :2], torch.ones(2, 2)).any()


def test_score_to_trace_gradient_of_probability_equals_softmax_derivative() -> None:
    logits = torch.tensor([[0.3, 1.2], [2.0, -1.0]], requires_grad=True)
    (raw,) = torch.autograd.grad(score_to_trace(logits, "logit"), logits)
    (probability,) = torch.autograd.grad(score_to_trace(logits, "probability"), logits)
    assert torch.equal(raw, torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    p = logits.softmax(-1)[:, 1]
    assert torch.allclose(probability[:, 1], p * (1 - p)) and torch.allclose(probability[:, 0], -p * (1 - p))


def test_feature_map_equals_grad_cam() -> None:
    torch.manual_seed(1)
    features, gradient = torch.randn(2, 5, 3), torch.randn(2, 5, 3)
    found = feature_map(features, gradient)
    for row in range(2):
        for patch in range(5):
            total = sum(float(features[row, patch, c]) * float(gradient[row, :, c].mean()) for c in range(3))
            assert float(found[row, patch]) == pytest.approx(max(0.0, total), abs=1e-6)


def test_heat_map_blob_roundtrip_equals_values() -> None:
    values = np.random.default_rng(0).random((3, 5), dtype=np.float32)
    assert (heat.from_blob(heat.to_blob(values)) == values).all()
    assert heat.to_blob(values) == heat.to_blob(values.copy())
    with pytest.raises(ValueError, match="float32"):
        heat.from_blob(heat.to_blob(values).replace(b"<f4", b"<i4"))


@pytest.mark.parametrize(
    ("cell", "width", "height", "expected"),
    [((0, 0), 40, 40, (5, 5)), ((3, 1), 640, 40, (240, 35)), ((2, 3), 1, 1, (0, 0)), ((0, 3), 10, 1000, (8, 125))],
)
def test_heat_peak_scales_by_axis(cell: tuple[int, int], width: int, height: int, expected: tuple[int, int]) -> None:
    values = np.zeros((4, 4), dtype=np.float32)
    values[cell] = 1e-30
    assert heat.peak(values, width, height) == expected


def round_spot(cells: int, x: float, y: float) -> NDArray[np.float64]:
    """A map of cells x cells that is hottest at (x, y), in 0..1, and cools down within about a cell."""
    places = (np.arange(cells) + 0.5) / cells
    spot: NDArray[np.float64] = np.exp(-((places[None] - x) ** 2 + (places[:, None] - y) ** 2) * cells**2 / 1.5)
    return spot


@given(st.integers(3, 30), st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.sampled_from([1e-20, 1.0]))
@example(3, 0.5, 0.5, 1.0)
def test_heat_peak_of_round_spot_lies_between_hot_cells(cells: int, x: float, y: float, warmth: float) -> None:
    """It is nearer to the spot than the cells' middles would be, at the edge too.

    Three cells are the fewest: a map must hold a cell as cold as what surrounds the spot (see the next test).
    """
    found = heat.peak((warmth * round_spot(cells, x, y)).astype(np.float32), 3000, 1500)
    assert found is not None
    begins, ends = 0.5 / cells, 1 - 0.5 / cells
    for at, true in ((found[0] / 3000, x), (found[1] / 1500, y)):
        assert abs(at - min(max(true, begins), ends)) < 0.3 / cells


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (0.5, 0.5, (50, 25)),  # four equal cells: nothing is known, and the first point in reading order is taken
        (0.5, 0.7, (1450, 1125)),  # two equal cells, and two colder ones: between the two
        (0.7, 0.7, (2150, 1075)),  # one hottest cell: on its side towards the others
    ],
)
def test_heat_peak_of_four_cells_needs_colder_cell(x: float, y: float, expected: tuple[int, int]) -> None:
    """Around a map it is as cold as its coldest cell, so that a map of equal cells has no middle that is hotter."""
    assert heat.peak(round_spot(2, x, y).astype(np.float32), 3000, 1500) == expected


def test_heat_smooth_is_hottest_at_peak() -> None:
    values = np.zeros((8, 8), dtype=np.float32)
    values[0, 2:4], values[1, 2:4] = (1, 0.95), (0.6, 0.6)
    column, row = heat.peak(values, 160, 160) or (0, 0)
    assert 50 < column < 60 and 10 <= row < 20
    assert heat.smooth(values, 160, 160)[row, column] > 0.98
    even = np.full((4, 4), 0.3, dtype=np.float32)
    assert heat.smooth(even, 32, 32).max() < 0.01 and heat.peak(even, 400, 400) == (3, 3), "the first in reading order"


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_heat_peak_without_finite_heat_is_none(value: float) -> None:
    assert heat.peak(np.full((4, 4), value, dtype=np.float32), 10, 10) is None


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 30))
def test_crop_padding_keeps_cells_that_cover_picture(width: int, height: int, cells: int) -> None:
    kept = heat.crop_padding(np.ones((cells, cells), dtype=np.float32), width, height)
    side = max(width, height)
    for part, extent in zip(kept.shape, (height, width), strict=True):
        assert cells * extent / side <= part <= cells
        assert part <= cells * extent / side + 2


def test_heat_layer_is_coloured_where_map_is_hot() -> None:
    values = np.zeros((4, 4), dtype=np.float32)
    values[3, 0] = 1
    layer = heat.layer(values, 200, 100, longest=100)
    assert layer.size == (100, 50)
    shown = Image.new("RGBA", layer.size, "white")
    shown.alpha_composite(layer.convert("RGBA"))
    pixels = np.asarray(shown.convert("RGB")).astype(int)
    assert (pixels[5, 90] == 255).all(), "what is cold stays as it is"
    red, green, blue = pixels[44, 12]
    assert red > green + 50 and red > blue + 50
