"""Fonts for labels in pictures: a font with the text's letters, or a substitute for the text."""

import unicodedata
from functools import lru_cache

from PIL import ImageFont, features

from namepin.agent.render.view import short

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_BOLD = ("DejaVuSans-Bold.ttf", "NotoSans-Bold.ttf", "Arial Bold.ttf", "arialbd.ttf", "NotoSansCJK-Bold.ttc")
_PLAIN = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf")
"""Fonts to look up in the system's font folders; Pillow's font replaces missing fonts."""

_NOWHERE = "\U0010fffe"
"""A code point that no font has; it draws the font's box for missing letters."""


@lru_cache(maxsize=64)
def fonts(size: int, bold: bool = True) -> tuple[Font, ...]:
    """The installed fonts, best first, at `size` pixels."""
    found: list[Font] = []
    for name in _BOLD if bold else _PLAIN:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return (*found, ImageFont.load_default(size))


def lettering(text: str, size: int, limit: int = 40, bold: bool = True) -> tuple[str, Font]:
    """The part of `text` that can be drawn, and a font for it.

    Emoji and other symbols that no font has are left out. The text is empty if a letter is missing, or if it runs right
    to left and Pillow lacks the shaping library; the label then shows only its number.
    """
    text = short(text, limit)
    right_to_left = any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)
    if right_to_left and not features.check("raqm"):
        return "", fonts(size, bold)[0]
    for font in fonts(size, bold):
        missing = {c for c in set(text) if not c.isspace() and not _has(font, c)}
        if not any(c.isalnum() for c in missing):
            drawable = "".join(c for c in text if c not in missing and c not in "\u200d\ufe0f")
            return " ".join(drawable.split()), font
    return "", fonts(size, bold)[0]


def _has(font: Font, character: str) -> bool:
    return bytes(font.getmask(character)) != bytes(font.getmask(_NOWHERE))
