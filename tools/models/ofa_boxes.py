"""Boxes in OFA's form: four of 1,000 bins, for left, top, right and bottom of a picture squashed to a square.

OFA writes a coordinate of that square (512 pixels) as `round(999 * x / 512)`. So bin 999 is the picture's far edge on
either axis, for any picture size. A coordinate restored from a bin is off by at most half a bin.
"""

from collections.abc import Sequence

from namepin.tools.types import Box

NOWHERE = (0, 0, 0, 0)
"""The answer for mentions that are not in the picture, by a grounder trained on such mentions (RiVEG, footnote 3)."""


def bins_of(box: Box, width: int, height: int, bins: int = 1000) -> tuple[int, int, int, int]:
    """The four bins of a box in a picture of `width` x `height` pixels; coordinates outside are moved to its edge."""
    x1, y1, x2, y2 = (
        min(max(round(value / side * (bins - 1)), 0), bins - 1)
        for value, side in zip(box, (width, height, width, height), strict=True)
    )
    return x1, y1, x2, y2


def box_of(places: Sequence[int], width: int, height: int, bins: int = 1000) -> Box | None:
    """The box of four bins, in pixels of a picture of `width` x `height`; None when it is inverted or empty.

    Raises:
        ValueError: when there are not four, or one is not a bin.
    """
    if len(places) != 4 or not all(0 <= place < bins for place in places):
        raise ValueError(f"a box is four bins from 0 to {bins - 1}, not {list(places)}")
    left, top, right, bottom = places
    if left >= right or top >= bottom:
        return None
    last = bins - 1
    return left / last * width, top / last * height, right / last * width, bottom / last * height
