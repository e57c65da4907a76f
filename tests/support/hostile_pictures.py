"""Picture files that need more work than their size suggests, written by hand."""

import io
import struct
import zlib

from PIL import Image


def jpeg_of_many_scans(side: int, scans: int) -> bytes:
    """A grey progressive JPEG; each scan is some bytes and has the decoder walk over all blocks once more."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body

    def table(place: int, symbol: int) -> bytes:
        return segment(0xC4, bytes([place, 1, *[0] * 15, symbol]))

    blocks = ((side + 7) // 8) ** 2
    # The code of one bit for "no coefficient in the next 2^14 blocks", and 14 bits of how many more.
    bits = "0" * (15 * -(-blocks // 2**14))
    bits += "1" * (-len(bits) % 8)
    empty = segment(0xDA, bytes([1, 1, 0x00, 1, 63, 0])) + int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"".join(
        [
            b"\xff\xd8",
            segment(0xDB, b"\0" + b"\x01" * 64),
            segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0])),
            table(0x00, 0x00),
            table(0x10, 0xE0),
            segment(0xDA, bytes([1, 1, 0x00, 0, 0, 0])),
            empty * (scans - 1),
            b"\xff\xd9",
        ]
    )


def slow_jpeg() -> bytes:
    """Just within the bounds: takes a process some tenths of a second."""
    return jpeg_of_many_scans(8000, 16)


def png(*chunks: tuple[bytes, bytes], size: tuple[int, int] = (16, 16), repeat: int = 1) -> bytes:
    """A grey PNG with these chunks, again and again, before its pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(size[1] * (size[0] + 1))))
    inserted = b"".join(chunk(*one) for one in chunks) * repeat
    return b"\x89PNG\r\n\x1a\n" + header + inserted + pixels + chunk(b"IEND", b"")


def gif_of_many_blocks(blocks: int) -> bytes:
    """A GIF with a comment of so many blocks of one byte before its frame."""
    picture = encoded("GIF")
    frame = picture.index(b",", 13)
    return picture[:frame] + b"!\xfe" + b"\x01x" * blocks + b"\0" + picture[frame:]


def tiff(entries: list[tuple[int, int, int, int]], order: str = "<", directories: int = 1) -> bytes:
    """A TIFF of empty directories, the first with these entries: tag, kind, count, value."""
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    first = struct.pack(f"{order}H", len(entries)) + b"".join(struct.pack(f"{order}HHII", *one) for one in entries)
    parts, at = [head, first], 8 + len(first)
    for _ in range(directories - 1):
        parts += [struct.pack(f"{order}I", at + 4), struct.pack(f"{order}H", 0)]
        at += 6
    return b"".join(parts) + bytes(4)


def webp_of_many_chunks(chunks: int, canvas: tuple[int, int] = (16, 16)) -> bytes:
    """A WebP whose canvas has this size, and that has so many chunks that nobody knows."""
    width, height = (side - 1 for side in canvas)
    head = b"VP8X" + struct.pack("<I", 10) + bytes(4) + width.to_bytes(3, "little") + height.to_bytes(3, "little")
    body = b"WEBP" + head + (b"none" + bytes(4)) * chunks + encoded("WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def encoded(kind: str, **options: object) -> bytes:
    """An ordinary small picture."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((32, 24)).convert("RGB").save(file, kind, **options)
    return file.getvalue()
