"""Heat maps: their blob form, their peak in the picture, and an overlay for people.

A heat map is a float32 array of shape (rows, columns) over the patches of a model's input. The input is the upright
picture, squashed or padded to a square. Padding is removed first (`crop_padding`), so a map always covers the whole
picture, and each axis has its own scale.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from namepin.tools.types import Point

Heat = NDArray[np.float32]

FINER = 15
"""Number of points per cell and axis that the search for a peak samples; odd, so that one is the cell's middle."""


def to_blob(heat: Heat) -> bytes:
    """NumPy's `.npy` format: float32, (rows, columns)."""
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(heat, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()


def from_blob(data: bytes) -> Heat:
    """The heat map of a blob made by `to_blob`.

    Raises:
        ValueError: when the bytes are not such a map.
    """
    heat = np.load(io.BytesIO(data), allow_pickle=False)
    if heat.ndim != 2 or heat.dtype != np.float32:
        raise ValueError(f"a heat map is a float32 array of two axes, not {heat.dtype} of shape {heat.shape}")
    return np.asarray(heat, dtype=np.float32)


def peak(heat: Heat, width: int, height: int) -> Point | None:
    """The hottest point in pixels of the upright picture; None where the map is empty or not finite.

    The map is resized first (section 3.4.2), because the hottest point may lie between two hot cells. That finds
    objects smaller than a cell. Of equal points the first in reading order is returned.
    """
    if not np.isfinite(heat).all() or heat.max() <= 0:
        return None
    rows, columns = heat.shape
    finer = _resize(heat / heat.max(), columns * FINER, rows * FINER).round(5)
    row, column = np.unravel_index(int(finer.argmax()), finer.shape)
    return int((column + 0.5) * width / (columns * FINER)), int((row + 0.5) * height / (rows * FINER))


def _resize(heat: Heat, width: int, height: int) -> Heat:
    """The map resized to (height, width), bicubic; values outside the map equal its minimum (LAVIS pads nothing).

    OpenCV alone would repeat the cells at the edge, which moves a maximum onto the edge itself.
    """
    import cv2

    rows, columns = heat.shape
    across = (np.arange(width, dtype=np.float32) + 0.5) * columns / width - 0.5
    down = (np.arange(height, dtype=np.float32) + 0.5) * rows / height - 0.5
    x, y = np.meshgrid(across, down)
    cold = float(heat.min())
    found = cv2.remap(heat, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT, borderValue=cold)
    return np.asarray(found, dtype=np.float32)


def crop_padding(heat: Heat, width: int, height: int) -> Heat:
    """The part of a square map that the picture covers, for a model that saw the picture centred on a padded square.

    Cells under the padding are dropped; a cell that is partly picture is kept. At least one row and column remain.
    """
    side = max(width, height)
    rows, columns = heat.shape
    return heat[_covered_slice(rows, height, side), _covered_slice(columns, width, side)]


def _covered_slice(cells: int, extent: int, side: int) -> slice:
    first = (side - extent) / 2 * cells / side
    last = first + extent * cells / side
    return slice(int(np.floor(first)), int(np.ceil(last)))


def smooth(heat: Heat, width: int, height: int) -> Heat:
    """The map at the picture's size, (height, width), in 0..1, for people: bicubic, blurred by 2% of the side."""
    import cv2

    large = np.maximum(_resize(heat, width, height), heat.min())  # bicubic curves undershoot beside hot cells
    large = cv2.GaussianBlur(large, (0, 0), sigmaX=max(0.02 * max(width, height), 0.5))
    large = large - large.min()
    return np.asarray(large / max(float(large.max()), 1e-5 * float(heat.max()), 1e-30), dtype=np.float32)


def palette() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The palette for 256 levels: colours (256, 3), RGB, red is hot, and the opacity of each (256), 0..255.

    Cold places are transparent, so that the picture stays visible under the map.
    """
    import cv2

    levels = np.arange(256, dtype=np.uint8)
    colours = cv2.applyColorMap(levels, cv2.COLORMAP_TURBO).reshape(256, 3)[:, ::-1]
    return np.ascontiguousarray(colours, dtype=np.uint8), (0.7 * levels).round().astype(np.uint8)


def layer(heat: Heat, width: int, height: int, *, longest: int = 256) -> Image.Image:
    """The smoothed map as an overlay for a picture of width x height, to be stretched to its size.

    It has a palette and transparency, and is at most `longest` pixels wide or high: a few kilobytes as PNG.
    """
    scale = min(1.0, longest / max(width, height))
    warmth = smooth(heat, max(1, round(width * scale)), max(1, round(height * scale)))
    colours, opacity = palette()
    image = Image.fromarray((warmth * 255).round().astype(np.uint8))
    image.putpalette(colours.tobytes())
    image.info["transparency"] = opacity.tobytes()
    return image
