"""Placement of labels: beside their boxes, away from other boxes and labels."""

from collections.abc import Sequence

from namepin.tools.geometry import Rectangle, shared_area

_OWN, _OTHER, _LABEL = 1.0, 2.0, 10.0
"""Cost of a cost pixel: of the label's own box, of another entity's box, of another label."""


def place_label(
    size: tuple[float, float],
    own: Rectangle,
    others: Sequence[Rectangle],
    labels: Sequence[Rectangle],
    bounds: Rectangle,
    gap: float,
) -> Rectangle:
    """The rectangle for a label of `size` (width, height) that covers least.

    Places above the box are tried first, then below, beside it and at its inner edges (a box that fills the picture
    has no outside). Of equally good places the first wins, so the result is the same on every run.
    """
    width, height = size
    x1, y1, x2, y2 = own
    centre = (x1 + x2 - width) / 2
    corners = [(x, y) for y in (y1 - gap - height, y2 + gap) for x in (x1, x2 - width, centre)]
    corners += [(x, y) for y in (y1, y2 - height) for x in (x2 + gap, x1 - gap - width)]
    corners += [(x, y) for y in (y1 + gap, y2 - gap - height) for x in (x1 + gap, x2 - gap - width)]

    def cost(rect: Rectangle) -> float:
        price = _OWN * shared_area(rect, own)
        price += _OTHER * sum(shared_area(rect, other) for other in others)
        return price + _LABEL * sum(shared_area(rect, label) for label in labels)

    return min((_inside((x, y, x + width, y + height), bounds) for x, y in corners), key=cost)


def _inside(rect: Rectangle, bounds: Rectangle) -> Rectangle:
    """`rect` moved as little as possible to lie within `bounds`; a larger `rect` is aligned at its start."""
    x1, y1, x2, y2 = rect
    dx = max(bounds[0] - x1, min(0.0, bounds[2] - x2))
    dy = max(bounds[1] - y1, min(0.0, bounds[3] - y2))
    return x1 + dx, y1 + dy, x2 + dx, y2 + dy
