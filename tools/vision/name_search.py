"""Find a mention among the words read in a picture, in spite of case, joined words and wrong letters.

Both sides are compared as plain letters and digits without blanks, so `Cruz Crew`, `#CruzCrew` and `CRUZCREW` are one
string. A match starts and ends where a word does, and may have a wrong letter or two when it is long: `US` is never
found in `USE`, nor `Ohio` in `Rohit`.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein

from namepin.tools.geometry import Rectangle, box_iou
from namepin.tools.vision.ocr import Line, Quad, Word, bounds, part_of

_RUN = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])")
_SHIRT_NUMBER = re.compile(r"\d{1,2}")
_OTHER_FORM = 0.9
"""Quality of a name that is not written out: initials, a part of a hashtag, a shirt."""

_FILLERS = frozenset("a an and at by de for in la of on the to der die das und le les el los du des s".split())


@dataclass(frozen=True)
class NameInText:
    """A mention, or most of one, read in the picture.

    Attributes:
        text: what was read there.
        quads: the matched words, or parts of words.
        quality: 0 to 1; the share of the mention's letters that were found, less the wrong ones.
        places: how often the mention was read that well.
    """

    text: str
    quads: tuple[Quad, ...]
    quality: float
    places: int = 1

    @property
    def box(self) -> Rectangle:
        """The upright rectangle around the matched words."""
        return bounds(self.quads)


@dataclass(frozen=True)
class Piece:
    """A part of a word without a boundary inside: `#CruzCrew` has two."""

    raw: str
    plain: str
    quad: Quad


def find_name(mention: str, lines: Sequence[Line], *, person: bool = False) -> NameInText | None:
    """The best place where the mention is written, or None; of equally good ones the largest.

    A part of a mention counts when it has at least 60% of its letters and five of them, as `Jolie` does not and
    `Federation Business Data Lake` of `Federation Business Data Lake Solution` does. Initials stand for a name and a
    name for its initials: `UN` and `UNITED NATIONS`. A hashtag may join the name with other words: `#WeLoveArsenal`.

    Args:
        mention: the name in the post.
        lines: the lines read in the picture.
        person: the mention is a person's name, whose last word with a number beside it is a shirt: `SALAH 11`.
    """
    rows = [[piece for word in line.words for piece in pieces(word)] for line in lines]
    rows += [rows[i] + rows[j] for i, j in _continuations(lines)]
    targets = _targets(mention)
    hits = [hit for target, share in targets for row in rows for hit in _hits(target, share, row)]
    hits += [hit for row in rows for hit in _initials(targets, row)]
    hits += _in_hashtags(targets, lines)
    if person:
        hits += _on_shirts(targets, lines)
    if not hits:
        return None
    best = max(hits, key=lambda hit: (round(hit.quality, 2), _area(hit.box), hit.quads))
    places: list[Rectangle] = []
    for hit in hits:
        if hit.quality >= best.quality - 0.05 and all(box_iou(hit.box, other) < 0.3 for other in places):
            places.append(hit.box)
    return NameInText(best.text, best.quads, best.quality, len(places))


def plain(text: str) -> str:
    """Letters and digits only, without case or accents."""
    folded = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in folded if c.isalnum())


def allowed_edits(length: int) -> int:
    """Wrong letters that a string of this length may have."""
    return 0 if length < 5 else 1 if length < 9 else 2


def pieces(word: Word) -> Iterator[Piece]:
    """Split a word at punctuation, at humps (`CruzCrew`) and between letters and digits."""
    for run in _RUN.finditer(word.text):
        start = run.start()
        for part in _HUMP.split(run.group()):
            end = start + len(part)
            if plain(part):
                yield Piece(part, plain(part), part_of(word.quad, start / len(word.text), end / len(word.text)))
            start = end


def _targets(mention: str) -> list[tuple[list[Piece], float]]:
    """The whole mention, and the runs of its words that are long enough to stand for it, with their share of it."""
    nowhere: Quad = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0), (0.0, 0.0))
    words = [
        piece for word in mention.replace("'s", "").replace("’s", "").split() for piece in pieces(Word(word, nowhere))
    ]
    total = sum(len(word.plain) for word in words)
    targets = []
    for i in range(len(words)):
        for j in range(i + 1, len(words) + 1):
            run = words[i:j]
            letters = sum(len(word.plain) for word in run)
            whole = len(run) == len(words)
            trimmed = run[0].plain not in _FILLERS and run[-1].plain not in _FILLERS
            numbers = all(word in run for word in words if word.plain.isdigit())  # they tell iPhone 6 from iPhone 7
            if whole or (letters >= 5 and letters >= 0.6 * total and trimmed and numbers):
                targets.append((run, letters / total))
    return targets


def _hits(target: Sequence[Piece], share: float, row: Sequence[Piece]) -> Iterator[NameInText]:
    wanted = "".join(piece.plain for piece in target)
    for i in range(len(row)):
        read = ""
        for j in range(i, len(row)):
            read += row[j].plain
            if len(read) > len(wanted) + 2:
                break
            edits = _edits(wanted, read)
            if edits is not None and _case_fits(target, row[i : j + 1]):
                text = " ".join(piece.raw for piece in row[i : j + 1])
                quads = tuple(piece.quad for piece in row[i : j + 1])
                yield NameInText(text, quads, share * (1 - edits / len(wanted)))


def _initials(targets: Sequence[tuple[list[Piece], float]], row: Sequence[Piece]) -> Iterator[NameInText]:
    """Where a row has the initials of the whole mention, or a name whose initials are the mention; both in capitals."""
    whole = next((target for target, share in targets if share == 1.0), [])
    letters = "".join(word.raw[0] for word in whole if word.plain not in _FILLERS)
    for i, piece in enumerate(row):
        if len(letters) > 1 and letters.isupper() and piece.raw == letters:
            yield NameInText(piece.raw, (piece.quad,), _OTHER_FORM)
        if len(whole) == 1 and whole[0].raw.isupper() and whole[0].raw.isalpha() and len(whole[0].raw) > 1:
            spelt, j = "", i
            while j < len(row) and len(spelt) < len(whole[0].raw):
                filler = row[j].plain in _FILLERS and spelt
                spelt += "" if filler or len(row[j].plain) < 2 else row[j].raw[0]
                j += 1
            if spelt == whole[0].raw and row[i].plain not in _FILLERS and len(row[i].plain) > 1:
                run = row[i:j]
                yield NameInText(" ".join(p.raw for p in run), tuple(p.quad for p in run), _OTHER_FORM)


def _in_hashtags(targets: Sequence[tuple[list[Piece], float]], lines: Sequence[Line]) -> Iterator[NameInText]:
    """Where a hashtag without humps starts or ends with the whole mention: `#welovearsenal`."""
    whole = next((target for target, share in targets if share == 1.0), [])
    wanted = "".join(word.plain for word in whole)
    for word in (word for line in lines for word in line.words):
        tag = word.text.lstrip("#").casefold()
        if len(wanted) < 5 or not word.text.startswith("#") or plain(tag) != tag or wanted == tag:
            continue
        at = 0 if tag.startswith(wanted) else len(tag) - len(wanted) if tag.endswith(wanted) else None
        if at is not None:
            start = at + len(word.text) - len(tag)
            quad = part_of(word.quad, start / len(word.text), (start + len(wanted)) / len(word.text))
            yield NameInText(word.text, (quad,), _OTHER_FORM)


def _on_shirts(targets: Sequence[tuple[list[Piece], float]], lines: Sequence[Line]) -> Iterator[NameInText]:
    """Where the mention's last word stands alone in capitals with a number of one or two digits beside or below it."""
    whole = next((target for target, share in targets if share == 1.0), [])
    if len(whole) < 2 or len(whole[-1].plain) < 3:
        return
    boxes = [bounds([line.quad]) for line in lines]
    for i, line in enumerate(lines):
        name = [word for word in line.words if not _SHIRT_NUMBER.fullmatch(word.text)]
        numbers = [word for word in line.words if _SHIRT_NUMBER.fullmatch(word.text)]
        if len(name) != 1 or plain(name[0].text) != whole[-1].plain or not name[0].text.isupper():
            continue
        below = [
            other.words[0]
            for other, box in zip(lines, boxes, strict=True)
            if _SHIRT_NUMBER.fullmatch(other.text) and _is_below(boxes[i], box)
        ]
        number = next(iter(numbers + below), None)
        if number:
            yield NameInText(f"{name[0].text} {number.text}", (name[0].quad, number.quad), _OTHER_FORM)


def _is_below(name: Rectangle, number: Rectangle) -> bool:
    """Whether a number is printed below a name, near its middle; it may be several times as high."""
    height, middle = name[3] - name[1], (number[0] + number[2]) / 2
    return name[0] < middle < name[2] and name[1] < number[1] < name[3] + 3 * height


def _edits(wanted: str, read: str) -> int | None:
    """The number of wrong letters, or None where there are too many or the digits differ (2015 is not 2016)."""
    limit = allowed_edits(min(len(wanted), len(read)))
    edits = Levenshtein.distance(wanted, read, score_cutoff=limit)
    if edits > limit:
        return None
    digits = [c for c in wanted if c.isdigit()]
    if digits and digits != [c for c in read if c.isdigit()]:
        return None
    return edits


def _case_fits(target: Sequence[Piece], read: Sequence[Piece]) -> bool:
    """Up to three letters, case must agree as well: `US` is not `us`, `Who` may be `WHO` on a poster."""
    wanted, found = "".join(piece.raw for piece in target), "".join(piece.raw for piece in read)
    return len(wanted) > 3 or found == wanted or (found.isupper() and len(wanted) == 3)


def _continuations(lines: Sequence[Line]) -> list[tuple[int, int]]:
    """Pairs of lines that read on: of like height, the second close below the first and under it."""
    boxes = [bounds([line.quad]) for line in lines]
    pairs = []
    for i, (ax1, ay1, ax2, ay2) in enumerate(boxes):
        for j, (bx1, by1, bx2, by2) in enumerate(boxes):
            height, other = ay2 - ay1, by2 - by1
            like = 0.6 < height / max(other, 1e-6) < 1.7
            below = by1 > ay1 + 0.4 * height and by1 - ay2 < 0.8 * height
            under = min(ax2, bx2) - max(ax1, bx1) > 0.4 * min(ax2 - ax1, bx2 - bx1)
            if i != j and like and below and under:
                pairs.append((i, j))
    return pairs


def _area(box: Rectangle) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
