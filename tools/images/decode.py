"""Decodes a picture's bytes to upright RGB pixels, with Pillow.

Cheap pictures are decoded in the caller's process, all others in a worker process. A worker must start fast and use
only a few megabytes, so this module imports nothing heavy.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock

# The plug-ins by name: Pillow would otherwise import all of them.
from PIL import AvifImagePlugin as _avif
from PIL import Image
from PIL import TiffImagePlugin as _tiff
from PIL import WebPImagePlugin as _webp

from namepin.tools.images.flatten import to_rgb
from namepin.tools.images.headers import TooLarge, check_pixels

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
"""The enabled formats. A file never reaches a plug-in that runs other programs (EPS) or is rarely used."""

_PLUGINS = (_avif, _tiff, _webp)
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the transposition that makes the picture upright (EXIF 2.32, tag 0x0112)."""

_ORIENTATION = 0x0112


class Damaged(Exception):
    """The decoder cannot decode the file."""


def decode(data: bytes, max_pixels: int) -> Image.Image:
    """The upright RGB pixels of the first frame, transparency flattened.

    Raises:
        TooLarge: more pixels than `max_pixels`, than Pillow's own bound of 179 million, or than fit into memory.
        Damaged: the decoder fails, or the format is unknown.
    """
    try:
        with _pillow_silenced():
            return _decode(data, max_pixels)
    except TooLarge:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        bound = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise TooLarge(f"more than {bound:,} pixels, or too many for the memory") from error
    except Exception as error:  # Pillow's decoders raise nearly every built-in type on damaged data
        raise Damaged(type(error).__name__) from error


def is_heic(data: bytes) -> bool:
    """Whether a file has the signature of HEIC, which needs the package pillow-heif."""
    return data[4:8] == b"ftyp" and data[8:12] in _HEIC


def _decode(data: bytes, max_pixels: int) -> Image.Image:
    picture = Image.open(io.BytesIO(data), formats=_formats(data))
    check_pixels(*picture.size, max_pixels)
    picture.load()
    # After load(), because Pillow transposes TIFF pictures there and then drops the tag.
    orientation = _orientation(picture)
    upright = to_rgb(picture)
    return upright.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else upright


def _formats(data: bytes) -> tuple[str, ...]:
    if is_heic(data):
        with suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener(thumbnails=False)
            return ("HEIF", "AVIF")
    return FORMATS


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1 where the tag is absent or the EXIF block is damaged, since the pixels are fine."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block raises struct.error, SyntaxError, KeyError, ...
        return 1


_silent, _silent_lock = 0, Lock()
_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
"""The filter in the form of `warnings.filterwarnings`."""


@contextmanager
def _pillow_silenced() -> Iterator[None]:
    """Keep Pillow's warnings (odd metadata) off the terminal while any picture is decoded.

    Python's warning filters belong to the whole process, and two threads with `warnings.catch_warnings` would restore
    each other's filters. So the first decode adds one filter and the last one removes it; no lock is held in between.
    """
    global _silent
    with _silent_lock:
        _silent += 1
        warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    finally:
        with _silent_lock:
            _silent -= 1
            if not _silent:
                with suppress(ValueError):  # another thread's `catch_warnings` has ended meanwhile
                    warnings.filters.remove(_FILTER)  # type: ignore[attr-defined]  # a list, which typeshed hides
