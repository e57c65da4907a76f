"""Drawings of things: each on its own sheet, so that its mask is exact, then pasted on a background."""

import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from namepin.finetune.sandbox.kinds import COLOURS, HAIR, Thing
from namepin.tools.geometry import Region

Rgb = tuple[int, int, int]
Frame = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

FINER = 4
"""Sheets are drawn this many times larger and then reduced, so that edges are smooth."""

SKINS: tuple[Rgb, ...] = ((240, 200, 170), (200, 150, 110), (130, 85, 60))
DARK, LIGHT, BROWN, STEEL = (40, 40, 45), (250, 250, 250), (120, 75, 40), (150, 155, 165)


class Pen:
    """Draws in the unit square of a frame."""

    def __init__(self, sheet: Image.Image, frame: Frame) -> None:
        self._draw = ImageDraw.Draw(sheet)
        self._left, self._top = frame[0] * FINER, frame[1] * FINER
        self._width, self._height = (frame[2] - frame[0]) * FINER, (frame[3] - frame[1]) * FINER

    def _at(self, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
        return [(self._left + x * self._width, self._top + y * self._height) for x, y in points]

    def oval(self, x1: float, y1: float, x2: float, y2: float, fill: Rgb) -> None:
        """An ellipse in a rectangle."""
        self._draw.ellipse([*self._at([(x1, y1)])[0], *self._at([(x2, y2)])[0]], fill=(*fill, 255))

    def rect(self, x1: float, y1: float, x2: float, y2: float, fill: Rgb) -> None:
        """A rectangle."""
        self._draw.rectangle([*self._at([(x1, y1)])[0], *self._at([(x2, y2)])[0]], fill=(*fill, 255))

    def write(self, text: str) -> None:
        """A sign across the lower part, with a word as large as there is room for."""
        self.rect(0, 0.68, 1, 1, LIGHT)
        font = ImageFont.load_default(max(1.0, min(0.26 * self._height, 1.5 * self._width / len(text))))
        middle = self._at([(0.5, 0.84)])[0]
        self._draw.text(middle, text, fill=(*DARK, 255), font=font, anchor="mm")

    def shape(self, *points: tuple[float, float], fill: Rgb) -> None:
        """A polygon."""
        self._draw.polygon(self._at(points), fill=(*fill, 255))


Prop = Callable[[Pen, Rgb], None]
"""Draws the shown thing in the unit square."""


def _ball(pen: Pen, c: Rgb) -> None:
    pen.oval(0, 0, 1, 1, DARK)
    pen.oval(0.06, 0.06, 0.94, 0.94, LIGHT)
    pen.shape((0.5, 0.3), (0.7, 0.45), (0.62, 0.7), (0.38, 0.7), (0.3, 0.45), fill=DARK)


def _guitar(pen: Pen, c: Rgb) -> None:
    pen.rect(0.43, 0, 0.57, 0.6, DARK)
    pen.oval(0.2, 0.4, 0.8, 0.72, BROWN)
    pen.oval(0.08, 0.58, 0.92, 1, BROWN)
    pen.oval(0.38, 0.62, 0.62, 0.8, DARK)


def _sash(pen: Pen, c: Rgb) -> None:
    pen.shape((0, 0), (0.35, 0), (1, 0.8), (1, 1), (0.8, 1), (0, 0.25), fill=LIGHT)
    pen.shape((0.1, 0), (0.25, 0), (1, 0.9), (0.9, 1), fill=(60, 60, 160))


def _microphone(pen: Pen, c: Rgb) -> None:
    pen.rect(0.4, 0.4, 0.6, 1, DARK)
    pen.oval(0.2, 0, 0.8, 0.5, STEEL)
    pen.rect(0.2, 0.22, 0.8, 0.28, DARK)


def _book(pen: Pen, c: Rgb) -> None:
    pen.shape((0, 0.15), (0.5, 0.3), (1, 0.15), (1, 0.85), (0.5, 1), (0, 0.85), fill=BROWN)
    pen.shape((0.08, 0.24), (0.48, 0.38), (0.48, 0.9), (0.08, 0.76), fill=LIGHT)
    pen.shape((0.92, 0.24), (0.52, 0.38), (0.52, 0.9), (0.92, 0.76), fill=LIGHT)


def _mask(pen: Pen, c: Rgb) -> None:
    pen.shape((0, 0), (1, 0), (0.95, 0.6), (0.5, 1), (0.05, 0.6), fill=LIGHT)
    pen.oval(0.15, 0.25, 0.4, 0.45, DARK)
    pen.oval(0.6, 0.25, 0.85, 0.45, DARK)
    pen.shape((0.25, 0.62), (0.75, 0.62), (0.5, 0.85), fill=DARK)


def _logo(pen: Pen, c: Rgb) -> None:
    pen.rect(0, 0, 1, 1, c)
    for at in (0.18, 0.42, 0.66):
        pen.rect(at, 0.85 - at, at + 0.16, 0.85, LIGHT if c != COLOURS["white"] else DARK)


def _jersey(pen: Pen, c: Rgb) -> None:
    pen.shape((0.3, 0), (0.7, 0), (1, 0.25), (0.88, 0.45), (0.78, 0.36), (0.78, 1), (0.22, 1), fill=c)
    pen.shape((0.3, 0), (0, 0.25), (0.12, 0.45), (0.22, 0.36), (0.22, 1), (0.7, 1), (0.7, 0), fill=c)
    pen.rect(0.44, 0.12, 0.56, 1, LIGHT if c != COLOURS["white"] else DARK)
    pen.shape((0.38, 0), (0.62, 0), (0.5, 0.14), fill=DARK)


def _pennant(pen: Pen, c: Rgb) -> None:
    pen.rect(0, 0, 0.1, 1, BROWN)
    pen.shape((0.1, 0.02), (1, 0.3), (0.1, 0.58), fill=c)


def _drum(pen: Pen, c: Rgb) -> None:
    pen.oval(0, 0.6, 1, 1, c)
    pen.rect(0, 0.2, 1, 0.8, c)
    pen.oval(0, 0, 1, 0.4, LIGHT)
    pen.shape((0, 0.3), (0.1, 0.35), (0.3, 0.85), (0.2, 0.85), fill=STEEL)
    pen.shape((1, 0.3), (0.9, 0.35), (0.7, 0.85), (0.8, 0.85), fill=STEEL)


def _globe(pen: Pen, c: Rgb) -> None:
    pen.oval(0, 0, 1, 1, c)
    pen.oval(0.3, 0, 0.7, 1, DARK)
    pen.oval(0.34, 0.02, 0.66, 0.98, c)
    pen.rect(0.02, 0.47, 0.98, 0.53, DARK)


def _skyline(pen: Pen, c: Rgb) -> None:
    for left, top in ((0, 0.45), (0.2, 0.15), (0.42, 0), (0.62, 0.3), (0.82, 0.55)):
        pen.rect(left, top, left + 0.18, 1, c)
        for row in range(3):
            pen.rect(left + 0.05, top + 0.08 + row * 0.12, left + 0.12, top + 0.14 + row * 0.12, (255, 240, 150))


def _flag(pen: Pen, c: Rgb) -> None:
    pen.rect(0, 0, 0.07, 1, STEEL)
    pen.rect(0.07, 0, 1, 0.22, c)
    pen.rect(0.07, 0.22, 1, 0.44, LIGHT if c != COLOURS["white"] else DARK)
    pen.rect(0.07, 0.44, 1, 0.66, c)


def _tree(pen: Pen, c: Rgb) -> None:
    pen.rect(0.42, 0.6, 0.58, 1, BROWN)
    pen.oval(0, 0.2, 0.6, 0.75, c)
    pen.oval(0.4, 0.2, 1, 0.75, c)
    pen.oval(0.2, 0, 0.8, 0.5, c)


def _stadium(pen: Pen, c: Rgb) -> None:
    pen.oval(0, 0, 1, 1, c)
    pen.oval(0.18, 0.22, 0.82, 0.78, (60, 170, 80))
    pen.rect(0.48, 0.22, 0.52, 0.78, LIGHT)


def _temple(pen: Pen, c: Rgb) -> None:
    pen.shape((0, 0.3), (0.5, 0), (1, 0.3), fill=c)
    for left in (0.05, 0.27, 0.49, 0.71):
        pen.rect(left, 0.34, left + 0.14, 0.86, c)
    pen.rect(0, 0.88, 1, 1, c)


def _cat(pen: Pen, c: Rgb) -> None:
    pen.shape((0.1, 0), (0.35, 0.25), (0.1, 0.4), fill=c)
    pen.shape((0.9, 0), (0.65, 0.25), (0.9, 0.4), fill=c)
    pen.oval(0.05, 0.15, 0.95, 1, c)
    pen.oval(0.25, 0.4, 0.4, 0.58, (120, 220, 120))
    pen.oval(0.6, 0.4, 0.75, 0.58, (120, 220, 120))
    pen.shape((0.43, 0.65), (0.57, 0.65), (0.5, 0.74), fill=(240, 150, 160))


def _trophy(pen: Pen, c: Rgb) -> None:
    pen.oval(0, 0.05, 0.4, 0.45, c)
    pen.oval(0.6, 0.05, 1, 0.45, c)
    pen.shape((0.15, 0), (0.85, 0), (0.7, 0.55), (0.3, 0.55), fill=c)
    pen.rect(0.44, 0.5, 0.56, 0.85, c)
    pen.rect(0.25, 0.85, 0.75, 1, DARK)


def _clapper(pen: Pen, c: Rgb) -> None:
    pen.rect(0, 0.35, 1, 1, c)
    pen.shape((0, 0.3), (0.95, 0), (1, 0.14), (0.03, 0.42), fill=DARK)
    for left in (0.15, 0.45, 0.75):
        pen.shape((left, 0.26), (left + 0.1, 0.22), (left + 0.14, 0.32), (left + 0.04, 0.36), fill=LIGHT)


def _record(pen: Pen, c: Rgb) -> None:
    pen.oval(0, 0, 1, 1, DARK)
    pen.oval(0.14, 0.14, 0.86, 0.86, (60, 60, 65))
    pen.oval(0.3, 0.3, 0.7, 0.7, c)
    pen.oval(0.46, 0.46, 0.54, 0.54, LIGHT)


def _bottle(pen: Pen, c: Rgb) -> None:
    pen.rect(0.36, 0, 0.64, 0.3, c)
    pen.rect(0.34, 0, 0.66, 0.08, STEEL)
    pen.shape((0.36, 0.25), (0.64, 0.25), (0.85, 0.45), (0.85, 1), (0.15, 1), (0.15, 0.45), fill=c)
    pen.rect(0.15, 0.55, 0.85, 0.8, LIGHT if c != COLOURS["white"] else DARK)


def _gamepad(pen: Pen, c: Rgb) -> None:
    pen.oval(0, 0.15, 0.45, 1, c)
    pen.oval(0.55, 0.15, 1, 1, c)
    pen.rect(0.2, 0.15, 0.8, 0.65, c)
    pen.rect(0.14, 0.38, 0.38, 0.46, LIGHT if c != COLOURS["white"] else DARK)
    pen.rect(0.22, 0.28, 0.3, 0.56, LIGHT if c != COLOURS["white"] else DARK)
    pen.oval(0.66, 0.34, 0.8, 0.52, (230, 60, 60))


def _app(pen: Pen, c: Rgb) -> None:
    pen.oval(0, 0, 0.4, 0.4, c)
    pen.oval(0.6, 0, 1, 0.4, c)
    pen.oval(0, 0.6, 0.4, 1, c)
    pen.oval(0.6, 0.6, 1, 1, c)
    pen.rect(0.2, 0, 0.8, 1, c)
    pen.rect(0, 0.2, 1, 0.8, c)
    pen.shape((0.35, 0.25), (0.35, 0.75), (0.78, 0.5), fill=LIGHT if c != COLOURS["white"] else DARK)


def _tent(pen: Pen, c: Rgb) -> None:
    pen.shape((0.5, 0), (1, 1), (0, 1), fill=c)
    pen.shape((0.5, 0.35), (0.68, 1), (0.32, 1), fill=DARK)
    pen.shape((0.5, 0), (0.5, 0.18), (0.72, 0.09), fill=(230, 60, 60))


def _magazine(pen: Pen, c: Rgb) -> None:
    pen.rect(0.08, 0, 0.92, 1, LIGHT)
    pen.rect(0.08, 0, 0.92, 0.25, c)
    pen.oval(0.3, 0.35, 0.7, 0.7, STEEL)
    for top in (0.78, 0.87):
        pen.rect(0.2, top, 0.8, top + 0.04, DARK)


PROPS: Mapping[str, Prop] = {
    "ball": _ball, "guitar": _guitar, "sash": _sash, "microphone": _microphone, "book": _book, "mask": _mask,
    "logo": _logo, "jersey": _jersey, "pennant": _pennant, "drum": _drum, "globe": _globe, "skyline": _skyline,
    "flag": _flag, "tree": _tree, "stadium": _stadium, "temple": _temple, "cat": _cat, "trophy": _trophy,
    "clapper": _clapper, "record": _record, "bottle": _bottle, "gamepad": _gamepad, "app": _app, "tent": _tent,
    "magazine": _magazine,
}  # fmt: skip

_WIDTHS = {"bottle": 0.55, "guitar": 0.6, "flag": 1.2, "skyline": 1.3, "stadium": 1.5, "gamepad": 1.4, "magazine": 0.8}
"""Width over height of things that are not about square."""


def shape_of(thing: Thing) -> float:
    """Width over height of the drawn thing."""
    return 0.62 if thing.hair else _WIDTHS.get(thing.kind.shown, 1.0)


def draw(sheet: Image.Image, thing: Thing, frame: Frame, rng: random.Random) -> None:
    """Draw a thing into its frame on a transparent sheet `FINER` times larger than the picture."""
    pen, colour = Pen(sheet, frame), COLOURS[thing.colour]
    if thing.hair is None:
        PROPS[thing.kind.shown](pen, colour)
        if thing.sign:
            pen.write(thing.sign)
        return
    skin = rng.choice(SKINS)
    pen.oval(0.27, 0, 0.73, 0.32, HAIR[thing.hair])
    pen.oval(0.32, 0.06, 0.68, 0.36, skin)
    pen.oval(0.4, 0.17, 0.45, 0.21, DARK)
    pen.oval(0.55, 0.17, 0.6, 0.21, DARK)
    pen.shape((0.2, 0.4), (0.8, 0.4), (0.85, 0.74), (0.15, 0.74), fill=colour)
    pen.shape((0.2, 0.4), (0.08, 0.66), (0.2, 0.7), (0.3, 0.5), fill=colour)
    pen.shape((0.8, 0.4), (0.92, 0.66), (0.8, 0.7), (0.7, 0.5), fill=colour)
    pen.rect(0.25, 0.74, 0.46, 1, DARK)
    pen.rect(0.54, 0.74, 0.75, 1, DARK)
    width, height = frame[2] - frame[0], frame[3] - frame[1]
    inner = (frame[0] + 0.3 * width, frame[1] + 0.42 * height, frame[0] + 0.95 * width, frame[1] + 0.78 * height)
    left, top, right, bottom = map(round, inner)
    if right > left and bottom > top:
        PROPS[thing.kind.shown](Pen(sheet, (left, top, right, bottom)), colour)


def lay_thing(background: Image.Image, sheet: Image.Image) -> tuple[Image.Image, Region]:
    """The picture with the sheet's thing on it, and the mask of pixels that the thing covers by half or more."""
    small = sheet.resize(background.size, Image.Resampling.BOX)
    region: Region = np.asarray(small.getchannel("A")) >= 128
    alpha = small.getchannel("A")
    return Image.composite(small.convert("RGB"), background, alpha), region


def background(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """Two muted colours running into each other, some faint shapes, and grain."""
    width, height = size
    first, second = ([rng.randint(90, 205) for _ in range(3)] for _ in range(2))
    slope = np.linspace(0, 1, height)[:, None, None]
    pixels = np.broadcast_to(np.array(first) * (1 - slope) + np.array(second) * slope, (height, width, 3)).copy()
    picture = Image.fromarray(pixels.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for _ in range(rng.randint(2, 6)):
        x, y, r = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.05, 0.3) * min(size)
        tone = tuple(rng.randint(80, 215) for _ in range(3))
        if rng.random() < 0.5:
            pen.ellipse([x - r, y - r, x + r, y + r], outline=tone, width=2)
        else:
            angle = rng.uniform(0, math.pi)
            pen.line([x, y, x + 3 * r * math.cos(angle), y + 3 * r * math.sin(angle)], fill=tone, width=2)
    grain = np.random.default_rng(rng.getrandbits(32)).integers(-8, 9, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(picture, dtype=np.int16) + grain, 0, 255).astype(np.uint8))
