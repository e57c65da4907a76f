"""Picture files that are false, huge or damaged: each gives a picture or a coded error, within its bounds."""

import io
import random
import struct
import zlib

import pytest
from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image
from support import hostile_pictures as hostile

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
CODES = {"E122", "E123", "E124", "E125", "E129"}


def outcome(data: bytes) -> str:
    """The size of the picture, or the code of the error."""
    try:
        return "x".join(map(str, load_image(data).image.size))
    except NamepinError as error:
        assert error.code in CODES
        return error.code


def animated(kind: str, frames: int) -> bytes:
    colours = [Image.new("RGB", (8, 8), (n % 256, n // 256, 90)) for n in range(frames)]
    file = io.BytesIO()
    colours[0].save(file, kind, save_all=True, append_images=colours[1:])
    return file.getvalue()


def bmp_of_single_runs(side: int) -> bytes:
    """A BMP with run-length encoding whose runs are all of one pixel: Pillow decodes these in Python."""
    pixels = (b"\1\0" * side + b"\0\0") * side + b"\0\1"
    header = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(pixels), 0, 0, 256, 0)
    palette = bytes(1024)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + palette + pixels


BOMBS = {
    "a GIF of 3000 frames": (animated("GIF", 3000), {"8x8"}),
    "a WebP of 1500 frames": (animated("WEBP", 1500), {"8x8"}),
    "an APNG of 900 frames": (animated("PNG", 900), {"8x8"}),
    "an APNG of 3000 frames": (animated("PNG", 3000), {"E125"}),
    "a TIFF of 300 pages": (animated("TIFF", 300), {"8x8"}),
    "a compressed text of 50 MB": (hostile.png((b"zTXt", b"a\0\0" + zlib.compress(bytes(5 * 10**7)))), {"E124"}),
    "a compressed profile of 50 MB": (
        hostile.png((b"iCCP", b"a\0\0" + zlib.compress(bytes(5 * 10**7)))),
        {"E124", "16x16"},
    ),
    "1900 texts of a megabyte": (hostile.png((b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6))), repeat=1900), {"E124"}),
    "more pixels than its size": (hostile.png((b"IDAT", zlib.compress(bytes(10**8)))), {"16x16", "E124"}),
    "a BMP of 1000 x 1000 runs": (bmp_of_single_runs(1000), {"1000x1000"}),
    "a GIF of comments": (hostile.gif_of_many_blocks(100_000), {"32x24"}),
    "a picture of no width": (hostile.png(size=(0, 16)), {"E124"}),
    "a TIFF of nothing": (hostile.tiff([]), {"E124"}),
    "a TIFF that points to itself": (b"II*\0" + struct.pack("<IHI", 8, 0, 8), {"E124", "E125"}),
    "a TIFF of a negative size": (hostile.tiff([(256, 9, 1, 2**32 - 5), (257, 3, 1, 5)]), {"E124"}),
    "a WebP canvas of 16383 x 16383": (hostile.webp_of_many_chunks(0, (16383, 16383)), {"E125"}),
    "HTML that begins like a GIF": (b"GIF89a<script>alert(1)</script>", {"E124"}),
    "SVG": (b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", {"E123"}),
    "PostScript": (b"%!PS\n(/etc/passwd) run", {"E123"}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_load_image_of_picture_bomb_returns_picture_or_coded_error(name: str) -> None:
    data, expected = BOMBS[name]
    assert outcome(data) in expected


@pytest.mark.parametrize("kind", KINDS)
def test_load_image_of_damaged_file_returns_picture_or_coded_error(kind: str) -> None:
    chance, whole = random.Random(kind), hostile.encoded(kind)
    seen = set()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8, 40))):
            data[chance.randrange(len(data))] = chance.choice((0, 0xFF, 0x7F, chance.randrange(256)))
        at = chance.randrange(len(data))
        change = chance.randrange(4)
        cut = data[:at] if change == 0 else data[:at] + data[at : at + 50] * 20 + data[at:] if change == 1 else data
        seen.add(outcome(bytes(cut)))
    assert len(seen) > 1
