"""Turns tokens and knowledge into the tensors of the tagger's net; shared by the tool and the training recipe.

A row is `[CLS] text [SEP] knowledge [SEP]` (GEM equation 3). The text is never cut: knowledge is cut first, and a text
that is too long for one row takes several overlapping rows (`windows`). Each word is read in the row with the most
context on both sides.
"""

import re
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from namepin.tools.labels import COARSE4, FINE51
from namepin.tools.nets.dual_tagger import TaggerBatch
from namepin.tools.tagger.lexicon import word_types
from namepin.tools.types import Frozen

CASES = ("none", "lower", "Title", "UPPER", "miXed", "X", "digits", "w1th-digits", "uncased", "mark", "symbol")
"""The casing of a word. `none` is for pieces that are not a word of the text; `uncased` for scripts without case."""
CONTEXTS = ("none", "knowledge", "plain", "handle", "hashtag", "link", "retweet")
"""The role of a word in the post: `handle` and `hashtag` are the words after `@` and `#`."""
MARKS = ("none", "absent", "said", "name", "in-name")
"""How the knowledge mentions a word: `said`: anywhere; or as first or later word of a name in a list `name (type)`;
`none` without knowledge."""
HINTS = ("none", "unclear", *COARSE4)
"""The coarse type (one of 4) in the hint behind a listed name, by the lexicon's rules for hints."""
FINE_HINTS = ("none", *FINE51)
"""The fine type (one of 51) that the hint names word for word."""
NUM_CHARS = 101
"""0 padding, 1-95 printable ASCII, then classes of everything else."""

MAX_WORD_PIECES = 32
"""Largest number of characters of a word; random letters beyond it add nothing. WordPiece reads such words as [UNK]."""


class InputSpec(Frozen):
    """How a post becomes rows; stored in an adapter's manifest, since the weights depend on it.

    Attributes:
        max_pieces: length of a row, special pieces included.
        knowledge_pieces: largest number of pieces of knowledge, even where there is room for more.
        overlap: number of pieces that neighbouring windows of a long text share.
        crf_scope: `text` runs the CRFs over the text's words only; `all` over text, separator and knowledge pieces, as
            equation 5 is written.
        shapes: give the encoder each word's casing and context.
        marks: give the encoder how the knowledge mentions each word (`MARKS`), from the whole knowledge, beyond
            `knowledge_pieces`. Finding names again is easy for a string search and hard for a small encoder.
        hints: with `marks`, also the coarse type that the knowledge gives a listed name (`HINTS`).
        fine_hints: with `hints`, also the fine type that the knowledge names word for word (`FINE_HINTS`).
        word_letters: number of a word's letters that the character net reads (the first and the last ones); 0 turns it
            off.
    """

    max_pieces: int = Field(256, ge=16)
    knowledge_pieces: int = Field(256, ge=0)
    overlap: int = Field(64, ge=0)
    crf_scope: Literal["text", "all"] = "text"
    shapes: bool = True
    marks: bool = False
    hints: bool = False
    fine_hints: bool = False
    word_letters: int = Field(16, ge=0)


@dataclass(frozen=True)
class KnowledgeInput:
    """Knowledge, prepared for rows.

    Attributes:
        ids: its first pieces.
        words: all its words, in lower case.
        names: `word_key`s of the names that it lists -> their hints (indices into `HINTS` and `FINE_HINTS`).
    """

    ids: list[int]
    words: frozenset[str]
    names: Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Row:
    """One row of a batch. `first:last` are its words of the post; `keep` are the words whose logits count."""

    piece_ids: "np.ndarray[Any, Any]"
    piece_shapes: "np.ndarray[Any, Any]"
    word_pieces: "np.ndarray[Any, Any]"
    word_chars: "np.ndarray[Any, Any]"
    first: int
    last: int
    keep: tuple[int, int]
    knowledge_cut: bool


def word_case(word: str) -> int:
    """Index into `CASES`."""
    letters = [c for c in word if c.isalpha()]
    if not letters:
        if word.isdigit():
            return CASES.index("digits")
        return CASES.index("mark" if word.isascii() else "symbol")
    if any(c.isdigit() for c in word):
        return CASES.index("w1th-digits")
    if not any(c.isupper() or c.islower() for c in letters):
        return CASES.index("uncased")
    upper = sum(c.isupper() for c in letters)
    if upper == 0:
        return CASES.index("lower")
    if upper == len(letters):
        return CASES.index("UPPER" if upper > 1 else "X")
    return CASES.index("Title" if upper == 1 and letters[0].isupper() else "miXed")


def word_context(word: str, previous: str) -> int:
    """Index into `CONTEXTS`, from the word and the one before it."""
    if previous == "@":
        return CONTEXTS.index("handle")
    if previous == "#":
        return CONTEXTS.index("hashtag")
    if word.lower().startswith(("http", "www.")) or word.startswith("//"):
        return CONTEXTS.index("link")
    return CONTEXTS.index("retweet" if word == "RT" else "plain")


_LISTED = re.compile(r"(?:\d[.)]|[:;,\n](?!\s*\d+[.)])|^)\s*([^:;,()\n]{1,80}?)\s*\(([^()\n]{0,80})")
_WORDS = re.compile(r"\w+")
_PLAIN_HINTS = {
    "person": "PER",
    "location": "LOC",
    "place": "LOC",
    "organization": "ORG",
    "group": "ORG",
    "event": "OTHER",
}
"""Hints that name one of the 4 types; the lexicon's rules are about fine types."""
_MOST_KEPT, _LONGEST_KEPT = 10_000, 100
"""Number of words whose pieces are cached, about 0.4 KB each, and the largest length of such a word."""

_LONGEST_NAME = 8
"""Largest number of words of a listed name."""


def word_key(text: str) -> str:
    """Letters and digits alone, lower case: the same for `#CondiRice`, `Condi Rice` and the words `Condi`, `Rice`."""
    return "".join(c for c in text.lower() if c.isalnum())


_FINE_KEYS = {word_key(kind): at for at, kind in enumerate(FINE_HINTS) if at}


def hint_type(hint: str) -> int:
    """Index into `HINTS` of a listed name's hint, such as `person/singer`."""
    votes = {coarse: sum(word_types("hint", coarse, hint).values()) for coarse in COARSE4}
    for word in _WORDS.findall(hint.lower()):
        if word in _PLAIN_HINTS:
            votes[_PLAIN_HINTS[word]] += 1.0
    best = max(votes, key=lambda coarse: votes[coarse])
    return HINTS.index(best if votes[best] else "unclear")


def fine_hint(hint: str) -> int:
    """Index into `FINE_HINTS` of the first type that a part of the hint is, as in `group/sports team`."""
    parts = map(word_key, hint.split("/"))
    return next((_FINE_KEYS[part] for part in parts if part in _FINE_KEYS), 0)


def knowledge_marks(words: Sequence[str], knowledge: KnowledgeInput) -> list[tuple[int, int, int]]:
    """For each word indices into `MARKS`, `HINTS` and `FINE_HINTS`.

    Of overlapping names the longest wins, then the first.
    """
    keys = [word_key(word) for word in words]
    absent, mentioned, name, inside = (MARKS.index(mark) for mark in ("absent", "said", "name", "in-name"))
    marks = [(mentioned if key and key in knowledge.words else absent, 0, 0) for key in keys]
    at = 0
    while at < len(keys):
        ends = [at + n for n in range(_LONGEST_NAME, 0, -1) if at + n <= len(keys) and keys[at] and keys[at + n - 1]]
        end = next((e for e in ends if "".join(keys[at:e]) in knowledge.names), None)
        if end is None:
            at += 1
            continue
        hints = knowledge.names["".join(keys[at:end])]
        marks[at:end] = [(name, *hints)] + [(inside, *hints)] * (end - at - 1)
        at = end
    return marks


def char_id(letter: str) -> int:
    """1-95 for printable ASCII; beyond it one class each for upper, lower and other letters, digits, and the rest."""
    if " " <= letter <= "~":
        return ord(letter) - 31
    if letter.isupper():
        return 96
    if letter.islower():
        return 97
    if letter.isalpha():
        return 98
    return 99 if letter.isdigit() else 100


_Word = tuple[tuple[int, ...], int, bytes]
"""A word: its pieces, case, and letters as bytes of `char_id`."""
_Read = tuple[tuple[int, ...], int, bytes, int, int, int, int]
"""A word in a row: its pieces, case, letters, context, mark and hints."""


class RowBuilder:
    """Lays posts out as rows for one tokenizer and one `InputSpec`.

    Words are cut into pieces one by one, with the same result as inside a sentence for word-piece and byte-pair
    tokenizers. The pieces are cached. A word without pieces (such as a lone variation selector) becomes the unknown
    piece, so that words and pieces stay aligned.
    """

    def __init__(self, tokenizer: Any, spec: InputSpec) -> None:
        self.tokenizer, self.spec = tokenizer, spec
        self.cls = self._special("cls_token_id", "bos_token_id")
        self.sep = self._special("sep_token_id", "eos_token_id")
        self.unknown = self._special("unk_token_id", "eos_token_id")
        # A word must fit a row, else the windows of a long text would not advance.
        self.word_limit = min(MAX_WORD_PIECES, spec.max_pieces - 2)
        self._words: dict[str, _Word] = {}

    def _special(self, *names: str) -> int:
        return next(int(i) for i in (getattr(self.tokenizer, n) for n in names) if i is not None)

    def _learn(self, words: Sequence[str]) -> Mapping[str, _Word]:
        """Pieces, case and letters of all these words.

        A full cache is cleared. Very long words are not cached.
        """
        known, long = self._words, dict[str, _Word]()
        new = list(dict.fromkeys(word for word in words if word not in known))
        if len(known) + len(new) > _MOST_KEPT:
            known, new = {}, list(dict.fromkeys(words))
        if new:
            for word, ids in zip(new, self.tokenizer(new, add_special_tokens=False).input_ids, strict=True):
                cache = known if len(word) <= _LONGEST_KEPT else long
                cache[word] = (tuple(ids[: self.word_limit]) or (self.unknown,), word_case(word), self._letters(word))
        # Assigned last: another thread sees the old cache or the complete new one.
        self._words = known
        return ChainMap(long, known) if long else known

    def _letters(self, word: str) -> bytes:
        size = self.spec.word_letters
        if len(word) > size:
            head = (size + 1) // 2
            word = word[:head] + word[len(word) - (size - head) :]
        return bytes(char_id(letter) for letter in word).ljust(size, b"\0")

    def knowledge(self, text: str | None) -> KnowledgeInput | None:
        """Knowledge, prepared for `rows`; None without knowledge."""
        if not text or not text.strip():
            return None
        ids: list[int] = []
        if self.spec.knowledge_pieces:
            ids = self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids[: self.spec.knowledge_pieces]
        if not self.spec.marks:
            return KnowledgeInput(ids, frozenset(), {})
        names: dict[str, tuple[int, int]] = {}
        for found, hint in _LISTED.findall(text):
            if key := word_key(found):
                names.setdefault(key, (hint_type(hint), fine_hint(hint)))
        return KnowledgeInput(ids, frozenset(_WORDS.findall(text.lower())), names)

    def rows(self, words: Sequence[str], knowledge: KnowledgeInput | None = None) -> list[Row]:
        """The rows of one post: one, or several windows for a long text."""
        words = list(words)
        known = self._learn(words)
        sizes = [len(known[word][0]) for word in words]
        room = self.spec.max_pieces - 2
        ids = knowledge.ids if knowledge else []
        marks = [(0, 0, 0)] * len(words)
        if knowledge and self.spec.marks:
            marks = knowledge_marks(words, knowledge)
        contexts = [word_context(word, before) for before, word in zip(["", *words], words, strict=False)]
        read = [(*known[word], context, *mark) for word, context, mark in zip(words, contexts, marks, strict=True)]
        if sum(sizes) <= room:
            left = room - sum(sizes) - 1
            cut = ids[: max(left, 0)]
            return [self._row(read, 0, len(words), (0, len(words)), cut, len(cut) < len(ids))]
        spans = list(_windows(sizes, room, self.spec.overlap))
        # A word in two windows is read in the one whose border is farther away: the overlap is split in the middle.
        borders = [0, *((spans[i][1] + spans[i + 1][0] + 1) // 2 for i in range(len(spans) - 1)), len(words)]
        return [
            self._row(read, first, last, (borders[i], borders[i + 1]), [], bool(ids))
            for i, (first, last) in enumerate(spans)
        ]

    def _row(
        self, read: list[_Read], first: int, last: int, keep: tuple[int, int], knowledge: list[int], cut: bool
    ) -> Row:
        nothing: tuple[int, ...] = (0, 0, 0, 0, 0)
        ids, shapes, starts, chars = [self.cls], [nothing], [], []
        for pieces, case, letters, context, *marks in read[first:last]:
            starts.append(len(ids))
            ids.extend(pieces)
            shapes.extend([(case, context, *marks)] * len(pieces))
            chars.append(letters)
        after = len(ids)
        ids.append(self.sep)
        shapes.append(nothing)
        if knowledge:
            ids.extend(knowledge)
            ids.append(self.sep)
            shapes.extend([(0, CONTEXTS.index("knowledge"), 0, 0, 0)] * (len(knowledge) + 1))
        if self.spec.crf_scope == "all":
            starts.extend(range(after, len(ids)))
            chars.extend([bytes(self.spec.word_letters)] * (len(ids) - after))
        letters_of = np.frombuffer(b"".join(chars), np.uint8).reshape(len(starts), self.spec.word_letters)
        return Row(np.array(ids), np.array(shapes), np.array(starts), letters_of, first, last, keep, cut)


def _windows(sizes: Sequence[int], room: int, overlap: int) -> Iterable[tuple[int, int]]:
    """Spans of words, each of at most `room` pieces, sharing about `overlap` pieces with the next, covering all."""
    first = 0
    while True:
        last, used = first, 0
        while last < len(sizes) and used + sizes[last] <= room:
            used += sizes[last]
            last += 1
        yield first, last
        if last == len(sizes):
            return
        back, shared = last, 0
        # Not so far back that the next window would end at the same word.
        while back - 1 > first and shared + sizes[back - 1] <= min(overlap, room - sizes[last]):
            back -= 1
            shared += sizes[back]
        first = back


def collate(rows: Sequence[Row], pad_id: int) -> TaggerBatch:
    """Rows padded to one batch."""
    batch, pieces = len(rows), max(len(row.piece_ids) for row in rows)
    words = max(1, max(len(row.word_pieces) for row in rows))
    letters = rows[0].word_chars.shape[1]
    piece_ids = np.full((batch, pieces), pad_id, dtype=np.int64)
    piece_mask = np.zeros((batch, pieces), dtype=bool)
    piece_shapes = np.zeros((batch, pieces, 5), dtype=np.int64)
    word_pieces = np.zeros((batch, words), dtype=np.int64)
    word_mask = np.zeros((batch, words), dtype=bool)
    word_chars = np.zeros((batch, words, letters), dtype=np.int64)
    for i, row in enumerate(rows):
        n, m = len(row.piece_ids), len(row.word_pieces)
        piece_ids[i, :n], piece_mask[i, :n], piece_shapes[i, :n] = row.piece_ids, True, row.piece_shapes
        word_pieces[i, :m], word_mask[i, :m], word_chars[i, :m] = row.word_pieces, True, row.word_chars
    arrays = (piece_ids, piece_mask, piece_shapes, word_pieces, word_mask, word_chars)
    return TaggerBatch(*(torch.from_numpy(a) for a in arrays))
