"""Pictures from files or bytes: read once, bounded, upright, RGB.

The cost in a file's header is checked before any pixel is decoded (`headers`). Certainly cheap pictures are decoded in
this process, all others in a worker process with a deadline (`decoder_pool`). No lock is held meanwhile, so a slow
picture does not delay others.
"""

import atexit
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from namepin.tools.errors import NamepinError, install_command
from namepin.tools.images.decode import FORMATS, Damaged, decode, is_heic
from namepin.tools.images.decoder_pool import DecoderPool, TooSlow
from namepin.tools.images.headers import MAX_PIXELS, TooLarge, check_header
from namepin.tools.types import ImageRef

MAX_BYTES = 256 * 2**20
DEADLINE_S = 20.0
"""Seconds after which decoding a picture is given up."""
NOT_IN_TIME = "E129"
TOO_SLOW = "was not decoded within"
"""The code for a picture that was given up. A later attempt may succeed."""
_PROCESSES = max(2, min(4, os.cpu_count() or 1))

_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"RIFF")
"""First bytes of the known formats, which separate a damaged picture from another kind of file."""


@dataclass(frozen=True)
class LoadedImage:
    """A picture ready for the tools.

    Attributes:
        ref: sha256 of the file's bytes, and the upright size.
        image: the upright RGB pixels of the first frame, transparency flattened (`flatten`).
    """

    ref: ImageRef
    image: Image.Image


def load_image(
    source: str | Path | bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_BYTES,
    deadline_s: float | None = None,
) -> LoadedImage:
    """Read a picture from a path, or from a file's bytes.

    Args:
        source: the path, or the file's bytes.
        max_pixels: largest number of pixels. Pillow's own bound of 179 megapixels applies as well.
        max_bytes: largest size of the file.
        deadline_s: seconds for decoding a picture that is not certainly cheap; None is `DEADLINE_S`.

    Raises:
        NamepinError: E120 missing or unreadable, E121 not a regular file, E122 empty, E123 not a picture of a known
            format, E124 truncated or damaged, E125 too many bytes, pixels or parts, E129 not decoded by the deadline.
    """
    deadline_s = DEADLINE_S if deadline_s is None else deadline_s
    where = "bytes" if isinstance(source, bytes) else str(source)
    data = source if isinstance(source, bytes) else _read(source, max_bytes)
    try:
        if _check(data, where, max_pixels, max_bytes):
            image = decode(data, max_pixels)
        else:
            image = _processes.decode(data, max_pixels, deadline_s)
    except TooLarge as error:
        raise _too_large(str(error), where) from error
    except Damaged as error:
        raise _unreadable(data, where) from error
    except TooSlow as error:
        what = f"the picture {TOO_SLOW} {deadline_s:g} s"
        raise NamepinError(NOT_IN_TIME, what, where=where, mend="save it again in an ordinary form") from error
    ref = ImageRef(sha256=hashlib.sha256(data).hexdigest(), width=image.width, height=image.height)
    return LoadedImage(ref, image)


def check_image(data: bytes, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES) -> bool:
    """Check a picture's file without decoding it. Returns whether decoding it is certainly cheap.

    Raises:
        NamepinError: E122 empty, E123 not of a known format, E125 too large.
    """
    try:
        cheap = _check(data, "bytes", max_pixels, max_bytes)
    except TooLarge as error:
        raise _too_large(str(error), "bytes") from error
    if not _is_known(data):
        raise _unreadable(data, "bytes")
    return cheap


def end_decoders() -> None:
    """End the worker processes for good, before this process ends."""
    _processes.close()


def _check(data: bytes, where: str, max_pixels: int, max_bytes: int) -> bool:
    if not data:
        raise NamepinError("E122", "the picture is empty (0 bytes)", where=where, mend="give a file that has content")
    if len(data) > max_bytes:
        raise _too_large(f"more than {max_bytes / 2**20:g} MiB", where)
    return check_header(data, max_pixels)


def _read(source: str | Path, max_bytes: int) -> bytes:
    """The file's bytes, at most one more than the limit, so that the caller notices the excess."""
    path, where = Path(source), str(source)
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "not a regular file"
            raise NamepinError("E121", f"the picture's path is {kind}", where=where, mend="give an image file")
        with path.open("rb") as file:
            return file.read(max_bytes + 1)
    except FileNotFoundError as error:
        mend = "give the file, or allow addresses with images.urls=true" if "://" in where else "check the path"
        raise NamepinError("E120", "picture not found", where=where, mend=mend) from error
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise NamepinError("E120", f"picture not readable: {reason}", where=where, mend="check the path") from error


def _too_large(what: str, where: str) -> NamepinError:
    return NamepinError("E125", f"the picture is too large: {what}", where=where, mend="scale it down")


def _is_known(data: bytes) -> bool:
    bitmap = data[:2] == b"BM" and data[6:10] == bytes(4)
    return data.startswith(_SIGNATURES) or data[4:8] == b"ftyp" or bitmap


def _unreadable(data: bytes, where: str) -> NamepinError:
    if is_heic(data):
        what = "a HEIC picture, damaged or not readable without pillow-heif"
        return NamepinError("E123", what, where=where, mend=f"{install_command('namepin[heic]')}, or save it as JPEG")
    if _is_known(data):
        return NamepinError(
            "E124", "the picture is truncated, damaged or of a rare kind", where=where, mend="save or download it again"
        )
    mend = f"convert it to one of {', '.join(FORMATS)}"
    return NamepinError("E123", "not a picture in a known format", where=where, mend=mend)


_processes = DecoderPool(_PROCESSES)
atexit.register(end_decoders)  # the interpreter would warn of processes that still run


def _after_fork() -> None:
    global _processes
    _processes.let_go()
    _processes = DecoderPool(_PROCESSES)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
