"""Perturbed gold boxes, so that a model does not learn an annotator's last pixel (E2E-GMNER's GRBP).

A box's centre is shifted and its sides are scaled, both by truncated normal noise. A perturbed box that overlaps too
little is drawn again, and at last the gold box is kept.
"""

import random

from namepin.tools.geometry import Rectangle, box_iou, clip_box

LEAST_IOU, TRIES = 0.6, 3
SMALL = 32 * 32
"""Area in pixels below which a box gets half of the noise."""


def perturb_box(box: Rectangle, size: tuple[int, int], shift: float, scale: float, rng: random.Random) -> Rectangle:
    """The box with noise, within the picture.

    Args:
        box: a gold box.
        size: width and height of its picture.
        shift: beta, the largest shift of the centre as a share of the sides.
        scale: gamma, the largest change of the sides as a share of them.
        rng: the source of randomness.
    """
    width, height = box[2] - box[0], box[3] - box[1]
    if width * height < SMALL:
        shift, scale = shift / 2, scale / 2
    for _ in range(TRIES if shift or scale else 0):
        x, y = (box[0] + box[2]) / 2 + _noise(shift, rng) * width, (box[1] + box[3]) / 2 + _noise(shift, rng) * height
        wide, high = width * (1 + _noise(scale, rng)), height * (1 + _noise(scale, rng))
        noisy = clip_box((x - wide / 2, y - high / 2, x + wide / 2, y + high / 2), size)
        if noisy is not None and box_iou(noisy, box) >= LEAST_IOU:
            return noisy
    return box


def _noise(most: float, rng: random.Random) -> float:
    """Normal noise with the variance of uniform noise in the same bounds, cut at these bounds."""
    return min(max(rng.gauss(0.0, most / 3**0.5), -most), most)
