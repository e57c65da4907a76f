"""Perturbed boxes: their bounds, their overlap with the gold box, and no noise where none is asked."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from namepin.finetune.extractor.perturb import LEAST_IOU, perturb_box
from namepin.tools.geometry import Rectangle, box_iou

SIZE = (200, 100)
edges = st.tuples(st.floats(0, 190), st.floats(0, 90), st.floats(2, 200), st.floats(2, 100))


@given(edges, st.integers(0, 99), st.floats(0, 0.49), st.floats(0, 0.49))
def test_perturbed_box_stays_in_its_picture_and_over_the_gold_box(
    corner: tuple[float, float, float, float], seed: int, shift: float, scale: float
) -> None:
    left, top, wide, high = corner
    box = (left, top, min(left + wide, 200.0), min(top + high, 100.0))
    found = perturb_box(box, SIZE, shift, scale, random.Random(seed))
    assert 0 <= found[0] < found[2] <= 200 and 0 <= found[1] < found[3] <= 100
    assert box_iou(found, box) >= LEAST_IOU - 1e-9


def test_perturbation_without_noise_keeps_the_box() -> None:
    box = (10.0, 10.0, 60.0, 60.0)
    assert perturb_box(box, SIZE, 0.0, 0.0, random.Random(1)) == box


@pytest.mark.parametrize(("box", "share"), [((50.0, 20.0, 110.0, 80.0), 1.0), ((50.0, 20.0, 70.0, 40.0), 0.5)])
def test_perturbation_moves_the_centre_by_at_most_beta_and_less_for_small_boxes(box: Rectangle, share: float) -> None:
    rng, side = random.Random(1), box[2] - box[0]
    found = [perturb_box(box, SIZE, 0.1, 0.1, rng) for _ in range(300)]
    shifts = [abs((one[0] + one[2]) / 2 - (box[0] + box[2]) / 2) / side for one in found]
    sides = [(one[2] - one[0]) / side for one in found]
    assert max(shifts) <= 0.1 * share + 1e-9 and max(shifts) > 0.09 * share
    assert min(sides) >= 1 - 0.1 * share - 1e-9 and max(sides) <= 1 + 0.1 * share + 1e-9 and len(set(found)) > 250


def test_perturbation_of_equal_seeds_is_equal() -> None:
    one, two, three = (perturb_box((10, 10, 90, 90), SIZE, 0.1, 0.1, random.Random(seed)) for seed in (1, 1, 2))
    assert one == two != three
