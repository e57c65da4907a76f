"""Reads mentions from tags of tokens, as seqeval does: BIO, IOB1, BIOES, BILOU and BMES."""

import re
from collections.abc import Iterable, Sequence

KINDS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S", "M": "I", "W": "S"}
"""The meaning of a tag's first letter: begin, inside, end, single. BILOU and BMES have other letters."""

_TAG = re.compile(rf"(?:o|[{''.join(KINDS)}]-\S.*)\Z", re.IGNORECASE)

TaggedSpan = tuple[int, int, str]
"""(first token, end token, type)."""


def is_tag(text: str) -> bool:
    """Whether a column's text is `O` or a letter of some scheme, a hyphen and a type."""
    return _TAG.match(text) is not None


def parse_tag(tag: str) -> tuple[str, str] | None:
    """(B, I, E or S; the type) of a tag; None for `O` and for an invalid tag."""
    kind, _, label = tag.partition("-")
    kind = KINDS.get(kind.upper(), "")
    return (kind, label) if kind and label else None


def spans_of_tags(tags: Sequence[str]) -> tuple[list[TaggedSpan], list[int]]:
    """The mentions of a sequence of tags, and the positions of broken tags.

    As in seqeval's default mode, B and S open a mention, E and S close one, and a tag that does not continue its own
    type opens a mention. An I or E that opens a mention is broken. So is an invalid tag, which is read as O.
    """
    spans: list[TaggedSpan] = []
    broken = []
    before: tuple[str, str] | None = None
    for i, tag in enumerate(tags):
        parsed = parse_tag(tag)
        if parsed is None:
            if tag.upper() != "O":
                broken.append(i)
        elif before and parsed[0] in "IE" and before[0] in "BI" and before[1] == parsed[1]:
            spans[-1] = (spans[-1][0], i + 1, parsed[1])
        else:
            if parsed[0] in "IE":
                broken.append(i)
            spans.append((i, i + 1, parsed[1]))
        before = parsed
    return spans, broken


def scheme_of(sequences: Iterable[Sequence[str]]) -> str:
    """The scheme of a file's tags: BIO, IOB1, BIOES, BILOU or BMES.

    IOB1 writes B only between two neighbours of one type. A single I that opens a mention does not show IOB1.
    """
    letters: set[str] = set()
    opening_i = plain_b = 0
    for tags in sequences:
        before = ""
        for tag in tags:
            kind, _, label = tag.partition("-")
            kind = kind.upper() if label else ""
            letters.add(kind)
            opening_i += kind == "I" and before != label
            plain_b += kind == "B" and before != label
            before = label
    if letters & {"M", "W"}:
        return "BMES"
    if letters & {"L", "U"}:
        return "BILOU"
    if letters & {"E", "S"}:
        return "BIOES"
    return "IOB1" if opening_i > 1 and not plain_b else "BIO"


def as_bio(tag: str) -> str:
    """A tag of any scheme in the letters of BIO."""
    parsed = parse_tag(tag)
    return "O" if parsed is None else f"{'B' if parsed[0] in 'BS' else 'I'}-{parsed[1]}"
