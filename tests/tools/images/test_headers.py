"""A picture's cost is estimated before it is decoded."""

import pytest

from namepin.tools.images.headers import CHEAP_PIXEL_SCANS, MAX_PIXELS, MAX_SCANS, TooLarge, check_header
from support import hostile_pictures as hostile

BOMBS = {
    "a progressive JPEG of 72 KB with thousands of scans": hostile.jpeg_of_many_scans(2500, 3000),
    "a small one": hostile.jpeg_of_many_scans(64, MAX_SCANS + 1),
    "few scans over many pixels": hostile.jpeg_of_many_scans(8000, 17),
    "too many pixels": hostile.jpeg_of_many_scans(8001, 1),
    "a JPEG of empty segments": b"\xff\xd8" + b"\xff\xe5\0\2" * 3000 + hostile.encoded("JPEG")[2:],
    "a JPEG of fill bytes": b"\xff\xd8" + b"\xff" * 100_000 + hostile.encoded("JPEG")[3:],
    "a PNG of empty chunks": hostile.png((b"tEXt", b""), repeat=3000),
    "a PNG of pixels in tiny chunks": hostile.png((b"IDAT", b""), repeat=100_001),
    "a PNG of one huge text": hostile.png((b"iTXt", bytes(33 * 2**20))),
    "a PNG of too many pixels": hostile.png(size=(8001, 8000)),
    "a WebP of a huge canvas": hostile.webp_of_many_chunks(1, (16383, 16383)),
    "a WebP of empty chunks": hostile.webp_of_many_chunks(3000),
    "a GIF of empty comments": hostile.gif_of_many_blocks(200_000),
    "a TIFF of a million strips": hostile.tiff([(273, 4, 2**20, 8)]),
    "the same, the other way round": hostile.tiff([(273, 4, 2**20, 8)], ">"),
    "a TIFF of empty directories": hostile.tiff([], directories=3000),
}


@pytest.mark.parametrize("name", BOMBS)
def test_check_header_of_picture_bomb_raises_too_large(name: str) -> None:
    with pytest.raises(TooLarge):
        check_header(BOMBS[name], MAX_PIXELS)


def test_jpeg_bomb_fixture_is_below_200_kilobytes() -> None:
    assert len(BOMBS["a progressive JPEG of 72 KB with thousands of scans"]) < 200_000


@pytest.mark.parametrize(
    ("data", "cheap"),
    [
        (hostile.encoded("JPEG"), True),
        (hostile.encoded("JPEG", progressive=True), True),
        (hostile.encoded("PNG"), True),
        (hostile.encoded("WEBP"), True),
        (hostile.encoded("WEBP", lossless=True), True),
        (hostile.encoded("WEBP", save_all=True, append_images=[]), True),
        (hostile.encoded("GIF"), False),
        (hostile.encoded("BMP"), False),
        (hostile.encoded("TIFF"), False),
        (hostile.encoded("AVIF"), False),
        (hostile.jpeg_of_many_scans(2000, CHEAP_PIXEL_SCANS // 2000**2), True),
        (hostile.jpeg_of_many_scans(2000, CHEAP_PIXEL_SCANS // 2000**2 + 1), False),
        (b"\xff\xd8\0\0" + hostile.encoded("JPEG")[2:], False),
        (hostile.png(size=(4001, 4000)), False),
        (hostile.png((b"tEXt", b"a\0b"), repeat=300), False),
        (hostile.webp_of_many_chunks(0, (4000, 4000)), False),
    ],
)
def test_check_header_reports_cheap_pictures_only_as_cheap(data: bytes, cheap: bool) -> None:
    assert check_header(data, MAX_PIXELS) is cheap


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF"])
def test_check_header_of_truncated_file_raises_nothing(kind: str) -> None:
    data = hostile.encoded(kind)
    for end in range(len(data)):
        check_header(data[:end], MAX_PIXELS)
