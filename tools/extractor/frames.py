"""The coordinates of an extractor's boxes: from the model's frame to pixels of the upright picture, and back."""

from dataclasses import dataclass
from typing import Any

from namepin.tools.geometry import Rectangle, clip_box
from namepin.tools.llm.box_frames import Frame, Size, box_numbers, in_picture
from namepin.tools.types import Box


@dataclass(frozen=True)
class BoxFrame:
    """How a model counts in one picture.

    Attributes:
        unit: pixels of the sent picture, thousandths of its sides, or fractions of them.
        shown_at: (width, height) of the sent picture in pixels.
        size: (width, height) of the upright picture in pixels.
    """

    unit: Frame
    shown_at: Size
    size: Size

    def to_pixels(self, numbers: Any) -> Box | None:
        """The model's four numbers as a box of the upright picture, cut at its edges.

        None for anything else: not four finite numbers, inverted, empty, or wholly outside.
        """
        read = box_numbers(numbers)
        return None if read is None else in_picture(read, self.unit, self.shown_at, self.size)

    def from_pixels(self, box: Rectangle) -> list[float]:
        """A box of the upright picture as the model writes it: whole numbers, or three decimals for fractions.

        The box is first cut at the picture's edges. It is at least one step wide and high, so that it stays a box.

        Raises:
            ValueError: the box is inverted, or outside the picture.
        """
        inside = clip_box(box, self.size)
        if inside is None:
            raise ValueError(f"box {box} is not in a picture of {self.size}")
        steps = self.shown_at if self.unit == "pixels" else (1000, 1000)
        (x1, x2), (y1, y2) = (_steps(inside[i], inside[i + 2], self.size[i], steps[i]) for i in (0, 1))
        corners = x1, y1, x2, y2
        return [n / 1000 for n in corners] if self.unit == "unit" else list(corners)


def _steps(low: float, high: float, side: int, steps: int) -> tuple[int, int]:
    """Both ends of an interval, in whole steps of a side, at least one step apart."""
    first, last = (round(end / side * steps) for end in (low, high))
    if first < last:
        return first, last
    return (first, first + 1) if first < steps else (steps - 1, steps)
