import hashlib
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from namepin.tools.errors import NamepinError
from namepin.tools.images.load import load_image

# Left half red, right half blue, and the top-left corner white: any turn or mirroring shows.
RED, BLUE, WHITE = (230, 10, 10), (10, 10, 230), (255, 255, 255)


def two_tone(width: int = 32, height: int = 16) -> Image.Image:
    picture = Image.new("RGB", (width, height), BLUE)
    picture.paste(RED, (0, 0, width // 2, height))
    picture.paste(WHITE, (0, 0, 4, 4))
    return picture


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def near(picture: Image.Image, at: tuple[int, int], colour: tuple[int, int, int], within: int = 12) -> bool:
    return bool(np.abs(np.subtract(picture.getpixel(at), colour)).max() <= within)


def png_header_only(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 + 3 * 1000) * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 95, "subsampling": 0}),
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("GIF", {}),
        ("BMP", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_load_image_of_common_format_returns_rgb_pixels(kind: str, options: dict[str, object]) -> None:
    data = encoded(two_tone(), kind, **options)
    loaded = load_image(data)
    assert loaded.image.mode == "RGB"
    assert (loaded.ref.width, loaded.ref.height) == loaded.image.size == (32, 16)
    assert loaded.ref.sha256 == hashlib.sha256(data).hexdigest()
    assert near(loaded.image, (10, 10), RED) and near(loaded.image, (28, 10), BLUE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_load_image_with_exif_orientation_returns_upright_picture(kind: str, orientation: int) -> None:
    # `stored` is what a camera held that way writes: the inverse of the turn that the tag asks for.
    stored_turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    upright = two_tone(48, 32)
    turn = stored_turn.get(orientation)
    stored = upright if turn is None else upright.transpose(Image.Transpose(turn))
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_image(encoded(stored, kind, exif=exif, **({"quality": 100} if kind in ("JPEG", "WEBP") else {})))
    assert (loaded.ref.width, loaded.ref.height) == (48, 32)
    assert near(loaded.image, (1, 1), WHITE, 40)
    assert near(loaded.image, (12, 24), RED, 40) and near(loaded.image, (40, 8), BLUE, 40)


def test_load_image_with_damaged_exif_keeps_stored_orientation() -> None:
    loaded = load_image(encoded(two_tone(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01broken"))
    assert loaded.image.size == (32, 16)


def test_load_image_of_cmyk_jpeg_returns_right_colours() -> None:
    loaded = load_image(encoded(two_tone().convert("CMYK"), "JPEG", quality=95))
    assert near(loaded.image, (10, 10), RED, 30) and near(loaded.image, (28, 10), BLUE, 30)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_load_image_of_16_bit_grey_scales_values(kind: str) -> None:
    ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (4, 1))
    loaded = load_image(encoded(Image.fromarray(ramp), kind))
    grey = np.asarray(loaded.image)[0, :, 0].astype(int)
    assert grey[0] == 0 and grey[-1] == 255 and abs(grey[128] - 128) <= 1


@pytest.mark.parametrize("values", [np.linspace(-3.0, 5.0, 64), np.linspace(0, 2**31 - 1, 64).astype(np.int32)])
def test_load_image_of_float_or_32_bit_tiff_stretches_values(values: np.ndarray) -> None:
    picture = Image.fromarray(np.tile(values.astype(np.float32 if values.dtype.kind == "f" else np.int32), (4, 1)))
    grey = np.asarray(load_image(encoded(picture, "TIFF")).image)[0, :, 0]
    assert grey[0] == 0 and grey[-1] == 255 and 120 <= grey[32] <= 135


def test_load_image_with_alpha_flattens_on_white() -> None:
    picture = two_tone().convert("RGBA")
    picture.putpixel((20, 8), (0, 0, 0, 0))
    picture.putpixel((21, 8), (0, 0, 0, 128))
    loaded = load_image(encoded(picture, "PNG"))
    assert loaded.image.getpixel((20, 8)) == WHITE
    assert near(loaded.image, (21, 8), (127, 127, 127), 2)


@pytest.mark.parametrize(
    ("colours", "ground"),
    [
        (["white"], (0, 0, 0)),
        (["#ffe600"], (0, 0, 0)),
        (["black"], WHITE),
        (["#1d4ed8"], WHITE),
        (["#808080"], WHITE),
        (["white", "black"], (118, 118, 118)),
    ],
)
def test_load_image_of_transparent_text_keeps_contrast(colours: list[str], ground: tuple[int, int, int]) -> None:
    picture = Image.new("RGBA", (200, 80))
    draw = ImageDraw.Draw(picture)
    for number, colour in enumerate(colours):
        draw.text((10, 10 + 30 * number), "Rotterdam", fill=colour, font_size=24)
    for kind in ("PNG", "WEBP", "TIFF"):
        loaded = load_image(encoded(picture, kind, **({"lossless": True} if kind == "WEBP" else {})))
        assert loaded.image.getpixel((199, 79)) == ground, kind


def test_load_image_of_white_page_with_transparent_edge_keeps_white_background() -> None:
    corners = Image.new("RGBA", (100, 100), "white")
    corners.paste((0, 0, 0, 0), (0, 0, 10, 10))
    shadowed = Image.new("RGBA", (140, 140))
    shadowed.paste((0, 0, 0, 90), (10, 10, 130, 130))
    shadowed.paste((255, 255, 255, 255), (20, 20, 120, 120))
    for picture in (corners, shadowed):
        assert load_image(encoded(picture, "PNG")).image.getpixel((0, 0)) == WHITE


def test_load_image_reads_avif_and_heic() -> None:
    assert near(load_image(encoded(two_tone(64, 32), "AVIF", quality=95)).image, (20, 20), RED, 30)
    pillow_heif = pytest.importorskip("pillow_heif")
    file = io.BytesIO()
    pillow_heif.from_pillow(two_tone(64, 32)).save(file, quality=95)
    assert near(load_image(file.getvalue()).image, (20, 20), RED, 30)


def test_load_image_of_unreadable_heic_raises_e123() -> None:
    with pytest.raises(NamepinError, match="E123.*HEIC"):
        load_image(b"\0\0\0\x18ftypheic" + bytes(40))


def test_load_image_of_palette_with_transparency_flattens_on_white() -> None:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([200, 0, 0, 0, 200, 0])
    picture.putpixel((3, 3), 1)
    loaded = load_image(encoded(picture, "PNG", transparency=b"\x00\xff"))
    assert loaded.image.getpixel((0, 0)) == WHITE and loaded.image.getpixel((3, 3)) == (0, 200, 0)


def test_load_image_of_animation_returns_first_frame() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
    for kind in ("GIF", "WEBP", "TIFF"):
        loaded = load_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert near(loaded.image, (8, 8), RED, 20), kind


def test_load_image_of_one_pixel_returns_it() -> None:
    assert load_image(encoded(Image.new("1", (1, 1), 1), "PNG")).image.getpixel((0, 0)) == WHITE


def test_load_image_of_path_and_bytes_gives_equal_ref(tmp_path: Path) -> None:
    file = tmp_path / "two tone.png"
    file.write_bytes(encoded(two_tone(), "PNG"))
    assert load_image(file).ref == load_image(str(file)).ref == load_image(file.read_bytes()).ref


BAD_BYTES = {
    "empty": (b"", "E122"),
    "text": (b"BMW cars are fast, said nobody.", "E123"),
    "pdf": (b"%PDF-1.7 ...", "E123"),
    "eps, whose decoder runs another program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "E123"),
    "bmp cut": (encoded(two_tone(), "BMP")[:200], "E124"),
    "random": (bytes(range(256)) * 4, "E123"),
    "jpeg cut in the pixels": (encoded(two_tone(200, 200), "JPEG")[:-400], "E124"),
    "png cut in the pixels": (encoded(Image.effect_noise((64, 64), 90), "PNG")[:1500], "E124"),
    "png cut in the header": (encoded(two_tone(), "PNG")[:20], "E124"),
    "gif cut": (encoded(Image.effect_noise((64, 64), 90), "GIF")[:1500], "E124"),
    "webp cut": (encoded(two_tone(), "WEBP")[:40], "E124"),
    "tiff cut": (encoded(two_tone(), "TIFF")[:60], "E124"),
    "png bomb": (png_header_only(20_000, 20_000), "E125"),
    "a bomb under Pillow's own bound": (png_header_only(10_000, 10_000), "E125"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_load_image_of_bad_bytes_raises_coded_error(name: str) -> None:
    data, code = BAD_BYTES[name]
    with pytest.raises(NamepinError) as caught:
        load_image(data)
    assert caught.value.code == code
    assert caught.value.mend and "\n" not in str(caught.value)


def test_pixel_limit_is_checked_before_decoding() -> None:
    # The body of this file is damaged: decoding it would say E124.
    damaged = encoded(Image.effect_noise((64, 64), 90), "PNG")[:1500]
    with pytest.raises(NamepinError, match="E125"):
        load_image(damaged, max_pixels=64 * 64 - 1)


def test_pixel_limit_is_inclusive() -> None:
    assert load_image(encoded(two_tone(), "PNG"), max_pixels=32 * 16).image.size == (32, 16)


def test_load_image_beyond_byte_limit_raises_e125(tmp_path: Path) -> None:
    file = tmp_path / "big.png"
    file.write_bytes(encoded(two_tone(), "PNG"))
    with pytest.raises(NamepinError, match="E125"):
        load_image(file, max_bytes=20)
    with pytest.raises(NamepinError, match="E125"):
        load_image(file.read_bytes(), max_bytes=20)


def test_load_image_of_bad_path_raises_e120_or_e121(tmp_path: Path) -> None:
    cases = {
        str(tmp_path / "absent.jpg"): "E120",
        "nul\0byte.jpg": "E120",
        "x" * 5000: "E120",
        "https://example.org/a.jpg": "E120",
        str(tmp_path): "E121",
    }
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        cases[str(tmp_path / "pipe")] = "E121"
    for path, code in cases.items():
        with pytest.raises(NamepinError) as caught:
            load_image(path)
        assert caught.value.code == code, path


def test_load_image_of_large_picture_within_raised_limit_gives_no_warning() -> None:
    # Between Pillow's warning (89 MP) and its error (179 MP); pytest turns a warning that escapes into a failure.
    with pytest.raises(NamepinError, match="E124"):
        load_image(png_header_only(10_000, 10_000), max_pixels=100_000_000)
