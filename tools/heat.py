"""Heat maps: their blob form, their peak in the picture, and the picture for people.

A heat map is a float32 array of shape (rows, columns) over the patches of a model's input. The input is the upright
picture squashed or padded to a square; what belongs to the picture has been cut out before (`crop_padding`), so a map
always covers the whole picture, and each axis scales by itself.
"""

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.types import Point

Heat = NDArray[np.float32]


def to_blob(heat: Heat) -> bytes:
    """NumPy's `.npy` format: float32, (rows, columns)."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(heat, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()


def from_blob(data: bytes) -> Heat:
    """The map that `to_blob` wrote.

    Raises:
        ValueError: when the bytes are not such a map.
    """
    heat = np.load(io.BytesIO(data), allow_pickle=False)
    if heat.ndim != 2 or heat.dtype != np.float32:
        raise ValueError(f"a heat map is a float32 array of two axes, not {heat.dtype} of shape {heat.shape}")
    return np.asarray(heat, dtype=np.float32)


def peak(heat: Heat, width: int, height: int) -> Point | None:
    """The hottest point in pixels of the upright picture; None where the map is empty or not finite.

    Bilinear resizing to the picture's size (section 3.4.2) has its maximum where the grid has it, so the answer is the
    centre of the hottest cell, scaled axis by axis. Of equal cells the first in reading order is taken.
    """
    if not np.isfinite(heat).all() or heat.max() <= 0:
        return None
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    rows, columns = heat.shape
    return int((column + 0.5) * width / columns), int((row + 0.5) * height / rows)


def crop_padding(heat: Heat, width: int, height: int) -> Heat:
    """The part of a square map that the picture covers, where the model saw it centred on a padded square.

    The cells under the padding are dropped; a cell that is partly picture stays. At least one row and column remain.
    """
    side = max(width, height)
    rows, columns = heat.shape
    return heat[_covered(rows, height, side), _covered(columns, width, side)]


def _covered(cells: int, extent: int, side: int) -> slice:
    first = (side - extent) / 2 * cells / side
    last = first + extent * cells / side
    return slice(int(np.floor(first)), int(np.ceil(last)))


def smooth(heat: Heat, width: int, height: int) -> Heat:
    """The map at the picture's size, (height, width), in 0..1, for people: bicubic, blurred by 2% of the side."""
    import cv2

    large: NDArray[Any] = cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC)
    large = cv2.GaussianBlur(large, (0, 0), sigmaX=max(0.02 * max(width, height), 0.5))
    large = large - large.min()
    return np.asarray(large / max(float(large.max()), 1e-12), dtype=np.float32)


def overlay(image: Image.Image, heat: Heat, *, longest: int = 1024) -> Image.Image:
    """The picture, at most `longest` pixels wide or high, with the smoothed map laid over it: red is hot."""
    import cv2

    scale = min(1.0, longest / max(image.size))
    width, height = (max(1, round(side * scale)) for side in image.size)
    base = np.asarray(image.convert("RGB").resize((width, height)), dtype=np.float32)
    warmth = smooth(heat, width, height)
    colours = cv2.applyColorMap((warmth * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    # Cold places stay as they are, so that the picture can be recognised.
    weight = 0.7 * warmth[..., None]
    return Image.fromarray((base * (1 - weight) + colours * weight).round().astype(np.uint8))
