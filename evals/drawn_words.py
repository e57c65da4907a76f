"""How well the starter's reader boxes words: pictures drawn with known words, fonts, colours and places (synthetic).

The fonts are those that ship with matplotlib and Pillow. One picture in three has a background of soft colours.
"""

import random
from collections.abc import Iterator
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from namepin.tools.geometry import Rectangle
from namepin.tools.vision.config import OcrConfig
from namepin.tools.vision.ocr import TextReader, bounds

_WORDS = (
    "ARCTIC NETFLIX ROTTERDAM SALAH Mohamed Angelina Wembley OLYMPICS Harbour Festival VMware Arsenal AMAZON Tokyo "
    "WIMBLEDON Airbus TESLA Justin Jazz Lille Avengers Yankees UNITED NATIONS World Cup Madrid FC Apple"
).split()
_FONTS = (
    "DejaVuSans DejaVuSans-Bold DejaVuSerif DejaVuSerif-Bold DejaVuSansMono-Bold DejaVuSans-BoldOblique "
    "STIXGeneralBol DejaVuSerif-Italic"
).split()
_SIZES = ((640, 480), (1024, 768), (800, 800), (1200, 630))

Drawn = tuple[str, Rectangle]
"""A word and the rectangle around its ink."""


def pictures(number: int, seed: int = 1) -> Iterator[tuple[Image.Image, list[Drawn]]]:
    """Pictures and the words on them."""
    chance = random.Random(seed)
    for i in range(number):
        width, height = chance.choice(_SIZES)
        picture = Image.new("RGB", (width, height), _colour(chance, 0, 256))
        if i % 3 == 0:
            noise = np.random.default_rng(i).integers(0, 256, (6, 8, 3), np.uint8)
            soft = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
            picture = Image.blend(picture, soft.filter(ImageFilter.GaussianBlur(5)), 0.5)
        drawn: list[Drawn] = []
        y = chance.randrange(5, 60)
        while (size := _font_size(chance, width, height)) * 1.4 + y <= height:
            drawn += _draw_line(picture, y, size, chance)
            y += int(size * chance.uniform(1.4, 2.2))
        yield picture, drawn


def _draw_line(picture: Image.Image, y: int, size: int, chance: random.Random) -> list[Drawn]:
    """Draw one to three words in one font; nothing where they do not fit."""
    name = chance.choice([*_FONTS, ""])
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    font = ImageFont.truetype(str(folder / f"{name}.ttf"), size) if name else ImageFont.load_default(size)
    words = [chance.choice(_WORDS) for _ in range(chance.choice([1, 1, 2, 3]))]
    length = font.getlength(" ".join(words))
    if length >= picture.width - 10:
        return []
    x = chance.randrange(0, int(picture.width - length) - 5)
    dark = np.asarray(picture.crop((x, y, int(x + length) + 1, y + size + 1))).mean() < 110
    colour = _colour(chance, 170, 256) if dark else _colour(chance, 0, 60)
    draw = ImageDraw.Draw(picture)
    draw.text((x, y), " ".join(words), font=font, fill=colour)
    drawn = []
    for i, word in enumerate(words):
        start = x + font.getlength(" ".join(words[:i]) + " " * bool(i))
        drawn.append((word, draw.textbbox((start, y), word, font=font)))
    return drawn


def _font_size(chance: random.Random, width: int, height: int) -> int:
    return int(chance.choice([0.035, 0.05, 0.07, 0.1]) * max(width, height) * chance.uniform(0.8, 1.2))


def _colour(chance: random.Random, low: int, high: int) -> tuple[int, int, int]:
    return chance.randrange(low, high), chance.randrange(low, high), chance.randrange(low, high)


def report(number: int = 24, tolerance: float = 2.0) -> Iterator[str]:
    """The share of drawn words that are read, and that their boxes hold within `tolerance` pixels."""
    reader = TextReader(OcrConfig())
    total = read = whole = 0
    for picture, drawn in pictures(number):
        words = [(word.text, bounds([word.quad])) for line in reader.read(picture) for word in line.words]
        for word, (left, top, right, bottom) in drawn:
            x, y = (left + right) / 2, (top + bottom) / 2
            boxes = [b for text, b in words if word in text and b[0] <= x <= b[2] and b[1] <= y <= b[3]]
            total += 1
            read += bool(boxes)
            whole += any(
                b[0] <= left + tolerance
                and b[1] <= top + tolerance
                and b[2] >= right - tolerance
                and b[3] >= bottom - tolerance
                for b in boxes
            )
    yield f"{read} of {total} words read as one word, {whole} in a box that holds the whole word"
