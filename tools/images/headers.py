"""Estimates the cost of decoding a picture from its file, before any pixel is decoded.

A decoder's time depends on more than the number of pixels: a progressive JPEG of 72 KB can ask for thousands of passes
over all of them, and a PNG or a TIFF file can consist of millions of empty parts. This module counts them in one pass
over the file, which reads only lengths and stops at the first exceeded bound.
"""

import re
import struct
from collections.abc import Iterator

MAX_PIXELS = 64_000_000
MAX_SCANS = 500
"""Largest number of passes over the pixels of a JPEG. Encoders write 1 to about 12."""
MAX_PIXEL_SCANS = 16 * MAX_PIXELS
"""Largest product of pixels and passes: about 2 s of one core at 2 ns each."""
MAX_PARTS = 2_000
"""Largest number of JPEG segments, PNG chunks other than pixel chunks, WebP chunks and frames, TIFF directories and
tags."""
MAX_PIXEL_PARTS = 100_000
"""Largest number of PNG chunks that hold pixels; encoders write 8 to 64 KiB into each."""
MAX_BESIDE = 32 * 2**20
"""Largest number of bytes in a PNG beside its pixels: text, profiles and others."""
MAX_STRAY = 2**16
"""Largest number of bytes of a JPEG outside its segments, such as fill bytes."""
MAX_GIF_BLOCKS = 2**17
"""Largest number of blocks before a GIF's first frame, such as comments; each has up to 255 bytes."""
MAX_STRIPS = 2**19
"""Largest number of strips or tiles of a TIFF."""

CHEAP_PIXEL_SCANS = 16_000_000
"""A JPEG or PNG within these bounds is decoded in about a quarter of a second on one core."""
CHEAP_WEBP_PIXELS = 4_000_000
_CHEAP_PIXEL_PARTS, _CHEAP_PARTS, _CHEAP_BESIDE = 5_000, 200, 2**20

_SCAN = b"\xff\xda"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_END = 0xD9
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_TIFF = {b"II*\0": "<", b"MM\0*": ">"}
_BYTE_KINDS = frozenset({1, 2, 6, 7})


class TooLarge(Exception):
    """A bound is exceeded; the message names it."""


def check_header(data: bytes, max_pixels: int) -> bool:
    """Check the bounds of a picture's cost before it is decoded.

    A damaged file is not refused here; the decoder reports the damage.

    Args:
        data: the file.
        max_pixels: largest number of pixels.

    Returns:
        Whether decoding is certainly cheap: a JPEG, PNG or WebP without rare structures, of about a quarter of a
        second.

    Raises:
        TooLarge: when one of the bounds above is exceeded.
    """
    if data.startswith(b"\xff\xd8"):
        return _check_jpeg(data, max_pixels)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _check_png(data, max_pixels)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _check_webp(data, max_pixels)
    if data[:3] == b"GIF":
        _check_gif(data)
    elif data[:4] in _TIFF:
        _check_tiff(data, _TIFF[data[:4]])
    return False


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture with more pixels than the bound.

    Raises:
        TooLarge: when it has more.
    """
    if width * height > max_pixels:
        raise TooLarge(f"{width}x{height} pixels, over the limit of {max_pixels:,}")


def _check_jpeg(data: bytes, max_pixels: int) -> bool:
    pixels, scans, stray = 0, 0, 0
    for number, (marker, at, skipped) in enumerate(_jpeg_segments(data), 1):
        stray += skipped
        if number > MAX_PARTS or stray > MAX_STRAY:
            raise TooLarge(f"more than {MAX_PARTS:,} JPEG segments, or {MAX_STRAY:,} bytes between them")
        if marker in _FRAME_HEADERS and at + 9 <= len(data):
            height, width = struct.unpack_from(">HH", data, at + 5)
            check_pixels(width, height, max_pixels)
            pixels = max(pixels, width * height)
        scans += marker == _SCAN[1]
        if scans > MAX_SCANS or pixels * scans > MAX_PIXEL_SCANS:
            raise TooLarge(f"a JPEG of {scans:,} or more passes over {pixels:,} pixels")
    # This count is at least the number of scans, even where a decoder splits a damaged file in another way.
    return not stray and 0 < pixels and pixels * data.count(_SCAN) <= CHEAP_PIXEL_SCANS


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each segment up to the end of the picture: its marker, its offset, and the number of stray bytes before it."""
    at, in_scan = 2, False
    while found := _MARKER.search(data, at):
        start, marker = found.start(), data[found.start() + 1]
        yield marker, start, 0 if in_scan else start - at
        if marker == _END or start + 4 > len(data):
            return
        bare = marker in (0x01, 0xD8)
        at = start + 2 + (0 if bare else struct.unpack_from(">H", data, start + 2)[0])
        in_scan = marker == _SCAN[1]


def _check_png(data: bytes, max_pixels: int) -> bool:
    pixels, with_pixels, others, beside = 0, 0, 0, 0
    for kind, at, length in _chunks(data, 8, ">"):
        if kind == b"IHDR" and at + 8 <= len(data):
            width, height = struct.unpack_from(">II", data, at)
            check_pixels(width, height, max_pixels)
            pixels = width * height
        if kind in (b"IDAT", b"fdAT"):
            with_pixels += 1
        else:
            others, beside = others + 1, beside + length
        if with_pixels > MAX_PIXEL_PARTS or others > MAX_PARTS or beside > MAX_BESIDE:
            raise TooLarge(f"a PNG of more than {MAX_PARTS:,} chunks or {MAX_BESIDE / 2**20:g} MiB beside its pixels")
    few = with_pixels <= _CHEAP_PIXEL_PARTS and others <= _CHEAP_PARTS and beside <= _CHEAP_BESIDE
    return few and 0 < pixels <= CHEAP_PIXEL_SCANS


def _check_webp(data: bytes, max_pixels: int) -> bool:
    pixels, parts, simple = 0, 0, True
    for kind, at, _ in _chunks(data, 12, "<"):
        parts += 1
        if parts > MAX_PARTS:
            raise TooLarge(f"a WebP of more than {MAX_PARTS:,} chunks")
        size = _webp_size(kind, data[at : at + 10])
        if size is not None:
            check_pixels(*size, max_pixels)
            pixels = max(pixels, size[0] * size[1])
        simple &= kind not in (b"ANIM", b"ANMF")
    return simple and 0 < pixels <= CHEAP_WEBP_PIXELS


def _webp_size(kind: bytes, head: bytes) -> tuple[int, int] | None:
    """Width and height from a WebP chunk that holds them (RFC 9649)."""
    if len(head) < 10:
        return None
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 6)
        return width & 0x3FFF, height & 0x3FFF
    return None


def _chunks(data: bytes, at: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """Kind, offset of the content, and length of each chunk of a PNG (big-endian) or a RIFF file (little-endian)."""
    big = order == ">"
    while at + 8 <= len(data):
        if big:
            length, kind = struct.unpack_from(">I4s", data, at)
        else:
            kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, at + 8, length
        if kind == b"IEND":
            return
        at += 12 + length if big else 8 + length + length % 2


def _check_gif(data: bytes) -> None:
    """Count the blocks that a decoder reads before the first frame."""
    at = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    blocks = 0
    while data[at : at + 1] == b"!":
        at += 2
        while at < len(data) and data[at]:
            at, blocks = at + 1 + data[at], blocks + 1
            if blocks > MAX_GIF_BLOCKS:
                raise TooLarge(f"a GIF of more than {MAX_GIF_BLOCKS:,} blocks before its first frame")
        at += 1
        blocks += 1


def _check_tiff(data: bytes, order: str) -> None:
    """Count the directories, their tags, and the values of each tag; strips are such values."""
    (at,), seen = struct.unpack_from(f"{order}I", data, 4) if len(data) >= 8 else (0,), 0
    while 0 < at and at + 2 <= len(data):
        (entries,) = struct.unpack_from(f"{order}H", data, at)
        seen += 1
        if seen > MAX_PARTS or entries > MAX_PARTS:
            raise TooLarge(f"a TIFF of more than {MAX_PARTS:,} directories or tags")
        for entry in range(at + 2, min(at + 2 + 12 * entries, len(data) - 12), 12):
            _, kind, count = struct.unpack_from(f"{order}HHI", data, entry)
            if kind not in _BYTE_KINDS and count > MAX_STRIPS:
                raise TooLarge(f"a TIFF of more than {MAX_STRIPS:,} strips, or values of one tag")
        end = at + 2 + 12 * entries
        at = struct.unpack_from(f"{order}I", data, end)[0] if end + 4 <= len(data) else 0
