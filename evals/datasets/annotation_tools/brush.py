"""Label Studio's run-length encoding of brush strokes: a stream of bits that encodes the picture's RGBA bytes.

The stream begins with the number of bytes (32 bits), the bits per value minus one (5), and four widths of run lengths
minus one (4 each). A block has one bit for "all equal", 2 bits that select a width, the run's length minus one, and one
value, or one per element of the run.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from namepin.tools.types import Mask

_WIDTHS, _VALUE_BITS = (3, 7, 11, 16), 8


class _BitReader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, bits: int) -> int:
        """The next bits as a number, most significant first.

        Raises:
            ValueError: when the stream has ended.
        """
        end = self._at + bits
        if end > 8 * len(self._data):
            raise ValueError("the brush's run lengths are cut off")
        part = int.from_bytes(self._data[self._at // 8 : (end + 7) // 8], "big")
        self._at = end
        return (part >> (-end % 8)) & ((1 << bits) - 1)


def decode_brush(runs: Any, size: tuple[int, int]) -> Mask:
    """The mask of a brush stroke: where the picture's alpha is not 0.

    Args:
        runs: bytes as numbers, the content of `value.rle`.
        size: (height, width) of the picture.

    Raises:
        ValueError: when the runs do not fill the picture.
    """
    if not isinstance(runs, Sequence) or isinstance(runs, str):
        raise ValueError("the brush's run lengths are not a list")
    try:
        reader = _BitReader(bytes(runs))
    except (TypeError, ValueError) as error:
        raise ValueError("the brush's run lengths are not bytes") from error
    total = reader.read(32)
    if total != 4 * size[0] * size[1]:
        raise ValueError(f"the brush's run lengths are of {total // 4} pixels, the picture has {size[0] * size[1]}")
    value_bits = reader.read(5) + 1
    widths = [reader.read(4) + 1 for _ in range(4)]
    alpha = np.zeros(total, dtype=bool)
    at = 0
    while at < total:
        equal = reader.read(1)
        end = min(at + reader.read(widths[reader.read(2)]) + 1, total)
        if equal:
            alpha[at:end] = reader.read(value_bits) > 0
        else:
            alpha[at:end] = [reader.read(value_bits) > 0 for _ in range(at, end)]
        at = end
    return Mask.from_array(alpha.reshape(size[0], size[1], 4)[:, :, 3])


def encode_brush(mask: Mask) -> list[int]:
    """A mask in the form of `value.rle`."""
    pixels = mask.to_array().ravel()
    bits = [f"{4 * len(pixels):032b}", f"{_VALUE_BITS - 1:05b}", *(f"{width - 1:04b}" for width in _WIDTHS)]
    borders = [0, *(np.flatnonzero(np.diff(pixels)) + 1).tolist(), len(pixels)]
    for start, end in zip(borders, borders[1:], strict=False):
        value = f"{255 if pixels[start] else 0:08b}"
        left = 4 * (end - start)
        while left:
            length = min(left, 2**16)
            k = next(i for i, width in enumerate(_WIDTHS) if length <= 2**width)
            bits.append(f"1{k:02b}{length - 1:0{_WIDTHS[k]}b}{value}")
            left -= length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
