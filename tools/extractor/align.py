"""Alignment: which tokens of a post the names of an answer stand for.

The rule. A name is compared as folded characters: without white space, accents and case. Longer names are placed first,
equal ones in the answer's order. A name takes all its free places of the first kind that has one:

1. whole tokens with exactly its characters;
2. the same, without the marks at its ends (`#NBA`, `(NBA)`);
3. whole tokens of which it is a cut piece: it begins or ends where a token does, has at least three characters, and
   at least half of the tokens' characters.

Places never overlap. A name that is given again (or with another type) takes the places in turn: the first item the
first place, and the last item all others. An item without a free place is not in the post, and is counted.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from namepin.tools.extractor.answer import AnswerItem

SHORTEST_PIECE = 3
"""Smallest number of characters of a cut piece."""

LONGEST_NAME = 30
"""Largest number of tokens of a name; a longer one is a sentence."""

Span = tuple[int, int]
"""Tokens, end exclusive."""


@dataclass(frozen=True)
class Alignment:
    """The placed items by their tokens, in text order, and the items that are not in the post or already placed."""

    placed: tuple[tuple[Span, AnswerItem], ...]
    unplaced: tuple[AnswerItem, ...] = ()


def align(items: Sequence[AnswerItem], tokens: Sequence[str]) -> Alignment:
    """Find the tokens of every item; see the module's rule."""
    post = _FoldedPost(tokens)
    groups: dict[str, list[AnswerItem]] = {}
    for item in items:
        groups.setdefault(fold(item.text), []).append(item)
    free = [True] * len(tokens)
    placed: list[tuple[Span, AnswerItem]] = []
    unplaced: list[AnswerItem] = []
    for name, same in sorted(groups.items(), key=lambda group: -len(group[0])):
        distinct = list(dict.fromkeys((item.label, item.fine, repr(item.box)) for item in same))
        given = [next(item for item in same if (item.label, item.fine, repr(item.box)) == key) for key in distinct]
        places = post.free_places(name, free)
        for i, (start, end) in enumerate(places):
            placed.append(((start, end), given[min(i, len(given) - 1)]))
            free[start:end] = [False] * (end - start)
        unplaced += given[len(places) :]
    return Alignment(tuple(sorted(placed, key=lambda one: one[0])), tuple(unplaced))


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    parts = unicodedata.normalize("NFKD", character.casefold())
    return "".join(c for c in parts.casefold() if not ("\u0300" <= c <= "\u036f" or c.isspace() or _invisible(c)))


def _invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc")


def fold(text: str) -> str:
    """The text's characters for comparison: without white space, invisible characters, accents and case."""
    return "".join(map(_fold_character, text))


def _core(name: str) -> str:
    """A folded name without the marks at its ends."""
    letters = [i for i, character in enumerate(name) if character.isalnum()]
    return name[letters[0] : letters[-1] + 1] if letters else ""


class _FoldedPost:
    """The folded characters of a post, and where its tokens begin and end among them."""

    def __init__(self, tokens: Sequence[str]) -> None:
        folded = [fold(token) for token in tokens]
        self.text = "".join(folded)
        self.token_at: list[int] = []
        """The token of each character."""
        self.starts: list[int] = []
        """The first character of each token."""
        for i, token in enumerate(folded):
            self.starts.append(len(self.token_at))
            self.token_at += [i] * len(token)
        self.starts.append(len(self.token_at))

    def free_places(self, name: str, free: Sequence[bool]) -> list[Span]:
        """The places of the first kind that has a free one, in text order, without overlap."""
        core = _core(name)
        for piece, whole in ((name, True), (core, True), (core, False)):
            if not piece or (not whole and len(piece) < SHORTEST_PIECE):
                continue
            places: list[Span] = []
            at = self.text.find(piece)
            while at >= 0:
                span = self._tokens_of(at, at + len(piece), whole)
                if span and all(free[span[0] : span[1]]) and not (places and span[0] < places[-1][1]):
                    places.append(span)
                at = self.text.find(piece, at + 1)
            if places:
                return places
        return []

    def _tokens_of(self, start: int, end: int, whole: bool) -> Span | None:
        """The tokens that hold these characters; None where the characters do not stand for whole tokens."""
        first, last = self.token_at[start], self.token_at[end - 1]
        begins, ends = self.starts[first] == start, self.starts[last + 1] == end
        if last + 1 - first > LONGEST_NAME:
            return None
        if whole or (begins and ends):
            return (first, last + 1) if begins and ends else None
        covered = 2 * (end - start) >= self.starts[last + 1] - self.starts[first]
        return (first, last + 1) if (begins or ends) and covered else None
