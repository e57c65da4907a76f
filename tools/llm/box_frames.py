"""Boxes as vision models write them: the units of their coordinates, and the size at which they see a picture.

Answers are untrusted: they may be numbers that are not a box.
"""

import math
import re
from typing import Any, Literal

from PIL import Image

from namepin.tools.geometry import clip_box
from namepin.tools.types import Box

Frame = Literal["pixels", "thousand", "unit"]
"""The unit of a model's coordinates: pixels of the sent picture (Qwen2.5-VL), thousandths of either side, 0 to 1000
(Qwen3-VL), or fractions of either side, 0 to 1."""

Size = tuple[int, int]
"""Width and height in pixels."""

_FAMILIES: tuple[tuple[str, Frame], ...] = (
    (r"qwen-?2[._-]?5-?vl", "pixels"),
    (r"qwen-?3([._-]\d)?-?vl|internvl|glm-4[._]\dv", "thousand"),
    (r"moondream", "unit"),
)
"""Pattern of a model's name -> the frame in which its family was trained to write boxes."""


def frame_of(model: str) -> Frame | None:
    """The frame of a model by its name; None for an unknown name. It is never guessed from the numbers."""
    name = model.casefold()
    return next((frame for family, frame in _FAMILIES if re.search(family, name)), None)


def shown_size(size: Size, factor: int, least: int, most: int) -> Size:
    """The size at which Qwen-VL reads a picture: sides that are multiples of `factor`, about the same shape.

    The model's own processor does not resize a picture of this size, so its pixels are the model's pixels.

    Args:
        size: of the picture.
        factor: pixels of a merged patch's side: 28 for Qwen2.5-VL, 32 for Qwen3-VL.
        least: smallest number of pixels; a smaller picture is enlarged.
        most: largest number of pixels; a larger picture is reduced.
    """
    # A very narrow picture would not fit between the bounds, so its short side is widened.
    width, height = (max(side, -(-max(size) // 100)) for side in size)
    wide, high = (max(factor, round(side / factor) * factor) for side in (width, height))
    if wide * high > most:
        scale = math.sqrt(width * height / most)
        wide, high = (max(factor, math.floor(side / scale / factor) * factor) for side in (width, height))
    elif wide * high < least:
        scale = math.sqrt(least / (width * height))
        wide, high = (math.ceil(side * scale / factor) * factor for side in (width, height))
    return wide, high


def resize_for_model(image: Image.Image, factor: int, least: int, most: int) -> Image.Image:
    """The upright RGB picture, resized for the model (bicubic)."""
    return image.resize(shown_size(image.size, factor, least, most), Image.Resampling.BICUBIC)


def in_picture(numbers: tuple[float, float, float, float], frame: Frame, shown_at: Size, size: Size) -> Box | None:
    """The model's four numbers as a box of the upright picture, cut at its edges.

    Args:
        numbers: left, top, right, bottom.
        frame: their unit.
        shown_at: (width, height) of the sent picture.
        size: of the upright picture.

    Returns:
        The box in pixels of the upright picture; None where it is inverted, empty, or wholly outside.
    """
    wide, high = _scales(frame, shown_at, size)
    left, top, right, bottom = numbers
    return clip_box((left * wide, top * high, right * wide, bottom * high), size)


def _scales(frame: Frame, shown_at: Size, size: Size) -> tuple[float, float]:
    whole = {"pixels": shown_at, "thousand": (1000, 1000), "unit": (1, 1)}[frame]
    return size[0] / whole[0], size[1] / whole[1]


def box_numbers(value: Any) -> tuple[float, float, float, float] | None:
    """Four finite numbers of a size that a picture may have."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e6 for n in value):
        return None  # NaN and infinity are not below any bound
    left, top, right, bottom = (float(number) for number in value)
    return left, top, right, bottom
