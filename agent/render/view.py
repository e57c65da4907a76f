"""Shared by all renderings: colours, wording, and sanitised text."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.labels import FINE_TO_COARSE4
from namepin.tools.types import Entity, Extraction, Notice

COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00")
"""Okabe and Ito's palette, which colour-blind readers can tell apart; entities take it in turn."""

KIND_WORDS = {"PER": "Person", "LOC": "Place", "ORG": "Organisation", "OTHER": "Other"}
"""The coarse types as words, for people who know no label sets."""

_CODE = re.compile(r"\b([EW]\d{3}): ")
_BIDI_CONTROLS = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class PostView:
    """The data to draw for one post.

    Attributes:
        extraction: the result.
        picture: the upright picture; None if it is missing or unreadable.
        heat: index of an entity in the result -> its heat map (a `namepin.tools.images.heatmap` blob), if the tracer
            returned one.
    """

    extraction: Extraction
    picture: Image.Image | None = None
    heat: Mapping[int, bytes] = field(default_factory=dict)


def colour(number: int) -> str:
    """The colour of the entity with this index, as `#RRGGBB`."""
    return COLOURS[number % len(COLOURS)]


def ink_on(background: str) -> str:
    """Black or white, whichever has the higher contrast on `background` (WCAG 2.2's relative luminance)."""
    channels = [int(background[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#FFFFFF"


def printable(text: str) -> str:
    """`text` with visible substitutes for characters that move a terminal's cursor or reverse a line.

    Control characters become Unicode's control pictures, direction overrides and lone surrogates U+FFFD.
    """
    return "".join(_visible(character) for character in text)


def _visible(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return " " if character in "\t\n\r" else chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    if character in _BIDI_CONTROLS or unicodedata.category(character) in ("Cc", "Cs"):
        return "\ufffd"
    return character


def short(text: str, limit: int) -> str:
    """Printable `text`, truncated with an ellipsis to `limit` characters."""
    text = printable(text)
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def kind(entity: Entity, sure: bool = False) -> str:
    """The type as text: the fine type if there is one and it is not uncertain, else the coarse type.

    Args:
        entity: the entity.
        sure: give the fine type also where it is uncertain.
    """
    if entity.fine_label is None or (entity.type_uncertain and not sure):
        return entity.label
    return entity.fine_label.replace("_", " ")


def typing(entity: Entity, joint: str = ", ", *, in_words: bool = False) -> str:
    """Coarse and fine type as text; "unsure" in place of a fine type that is uncertain.

    Args:
        entity: the entity.
        joint: what stands between the two.
        in_words: give the coarse type as a word, "Person" for PER.
    """
    coarse = KIND_WORDS.get(entity.label, entity.label) if in_words else entity.label
    if entity.fine_label is None:
        return coarse
    return coarse + joint + ("unsure" if entity.type_uncertain else kind(entity))


def score(entity: Entity) -> float | None:
    """The tagger's probability of the chosen type, if it gave one."""
    return entity.scores.get(entity.fine_label or entity.label)


def shown_score(entity: Entity) -> float | None:
    """The probability of the type as people are shown it: of all fine types together where only the coarse is shown."""
    if entity.type_uncertain:
        return min(1.0, sum(p for fine, p in entity.scores.items() if FINE_TO_COARSE4.get(fine) == entity.label))
    return score(entity)


def presence(entity: Entity) -> str:
    """Whether the entity is in the picture: `yes`, `no`, `cannot tell`, or `?` if no tool looked."""
    if entity.cannot_tell:
        return "cannot tell"
    return {True: "yes", False: "no", None: "?"}[entity.groundable]


def error_sentences(error: object) -> str:
    """An error for people: what is wrong and how to fix it as sentences, its code last in brackets."""
    if not isinstance(error, NamepinError):
        return _sentence(str(error))
    return " ".join([*(_sentence(part) for part in (error.what, error.mend) if part), f"({error.code})"])


def notice_sentence(notice: Notice) -> str:
    """A warning for people: a sentence, then its code, the codes of the errors behind it, and the tool in brackets."""
    codes = dict.fromkeys([notice.code, *_CODE.findall(notice.message)])
    return f"{_sentence(_CODE.sub('', notice.message))} ({', '.join([*codes, notice.tool])})"


def split_code(message: str) -> tuple[str, str]:
    """A message in its sentences and the brackets with its code at its end; no brackets where it has none.

    A message that begins with its code, as a program's does, gets it moved there.
    """
    if leading := _CODE.match(message):
        message = f"{_sentence(message[leading.end() :])} ({leading[1]})"
    sentences, bracket, code = message.rpartition(" (")
    if bracket and re.fullmatch(r"[EW]\d{3}\b[^()]*\)", code):
        return sentences, f"({code}"
    return message, ""


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""
