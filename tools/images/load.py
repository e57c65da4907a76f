"""Pictures from files or bytes: read once, bounded, upright, RGB.

Only the decoders in `FORMATS` are tried, so that a file never reaches a plug-in that runs other programs (EPS) or is
rarely exercised. Sizes are checked on the header, before any pixel is decoded.
"""

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.types import ImageRef

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 64_000_000
MAX_BYTES = 256 * 2**20

_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"RIFF")
"""First bytes that tell a damaged picture from a file that never was one."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> the turn that makes the picture upright (EXIF 2.32, tag 0x0112)."""

_ORIENTATION = 0x0112
_WARNINGS = threading.Lock()


@dataclass(frozen=True)
class LoadedImage:
    """A picture ready for the tools.

    Attributes:
        ref: sha256 of the file's bytes, and the upright size.
        image: the upright RGB pixels of the first frame, alpha flattened on white.
    """

    ref: ImageRef
    image: Image.Image


def load_image(source: str | Path | bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> LoadedImage:
    """Read a picture from a path, or from a file's bytes.

    Pillow's own bound of 179 megapixels holds even where `max_pixels` is higher.

    Raises:
        NamepinError: E120 missing or unreadable, E121 not a regular file, E122 empty, E123 not a picture of a known
            format, E124 truncated or damaged, E125 too many bytes or pixels.
    """
    where = "bytes" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _read(source, max_bytes)
    if not data:
        raise NamepinError("E122", "the picture is empty (0 bytes)", where=where, mend="give a file that has content")
    if len(data) > max_bytes:
        raise _too_large(f"more than {max_bytes / 2**20:g} MiB", where)
    try:
        with _pillow_silenced():
            image = _decode(data, max_pixels, where)
    except NamepinError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        bound = min(max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or max_pixels))
        raise _too_large(f"more than {bound:,} pixels", where) from error
    except Exception as error:  # Pillow's decoders raise nearly every built-in type on damaged data
        raise _unreadable(data, where) from error
    ref = ImageRef(sha256=hashlib.sha256(data).hexdigest(), width=image.width, height=image.height)
    return LoadedImage(ref, image)


def _read(source: str | Path, max_bytes: int) -> bytes:
    """The file's bytes, one more than the limit at most, so that the caller sees the excess."""
    path, where = Path(source), str(source)
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise NamepinError("E121", f"the picture's path is {kind}", where=where, mend="give an image file")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except FileNotFoundError as error:
        mend = "download it and give the local file" if "://" in where else "check the path"
        raise NamepinError("E120", "picture not found", where=where, mend=mend) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise NamepinError("E120", f"picture not readable: {reason}", where=where, mend="check the path") from error


def _decode(data: bytes, max_pixels: int, where: str) -> Image.Image:
    picture = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = picture.size
    if width * height > max_pixels:
        raise _too_large(f"{width}x{height} pixels, over the limit of {max_pixels:,}", where)
    picture.load()
    # After load(), because Pillow turns TIFF pictures itself there and then drops the tag.
    orientation = _orientation(picture)
    upright = _to_rgb(picture)
    return upright.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else upright


def _orientation(picture: Image.Image) -> int:
    """The EXIF orientation; 1 where the tag is absent or the EXIF block is damaged, since the pixels are fine."""
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block raises struct.error, SyntaxError, KeyError, ...
        return 1


def _to_rgb(picture: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB: 16-bit scaled rather than clipped, transparency flattened on white."""
    if picture.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(picture) // 257).astype(np.uint8)).convert("RGB")
    if picture.mode in ("I", "F"):  # 32-bit integers and floats have no agreed white: stretch what is there
        values = np.nan_to_num(np.asarray(picture, dtype=np.float32))
        span = max(float(np.ptp(values)), 1e-12)
        return Image.fromarray(((values - values.min()) * (255.0 / span)).astype(np.uint8)).convert("RGB")
    if picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture.convert("RGB")


@contextmanager
def _pillow_silenced() -> Iterator[None]:
    """Keep Pillow's warnings (large pictures, odd metadata) off the terminal.

    Python's warning filters belong to the whole process; the lock keeps two of our own loads from restoring each
    other's, and the `PIL` pattern leaves every other module's warnings alone.
    """
    with _WARNINGS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\..*")
        yield


def _too_large(what: str, where: str) -> NamepinError:
    return NamepinError("E125", f"the picture is too large: {what}", where=where, mend="scale it down")


def _unreadable(data: bytes, where: str) -> NamepinError:
    bitmap = data[:2] == b"BM" and data[6:10] == bytes(4)
    if data.startswith(_SIGNATURES) or bitmap:
        return NamepinError(
            "E124", "the picture is truncated, damaged or of a rare kind", where=where, mend="save or download it again"
        )
    mend = f"convert it to one of {', '.join(FORMATS)}"
    return NamepinError("E123", "not a picture in a known format", where=where, mend=mend)
