"""A small hand-written lexicon: votes for a mention's fine type, given its 4-type, from words and well-known names.

Its entries are data: `data/fine_names.toml` (names) and `data/fine_rules.toml` (patterns). It labels training posts
weakly (finetune/tagger/weak_labels.py), and can be combined with a tagger's scores (`blend`).
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from namepin.tools.base import digest, file_sha256
from namepin.tools.labels import FINE_TO_COARSE4

Votes = dict[str, float]
"""Fine type -> weight, not normalised; empty where nothing is known."""

Table = Literal["hint", "shape", "context"]
"""Kinds of text a rule reads: of the recorded knowledge, of the mention itself, of the post around it."""


@dataclass(frozen=True)
class TextWeights:
    """The weight of one full vote of each source; `context` is per matching rule."""

    listed: float = 2.0
    shape: float = 1.5
    context: float = 0.1


DATA = Path(__file__).parents[1] / "data"

_Rule = tuple[re.Pattern[str], Votes]


@lru_cache(maxsize=1)
def lexicon_sha256() -> str:
    """Digest of the two data files, for the fingerprints of tools that use the lexicon."""
    return digest([file_sha256(DATA / name) for name in ("fine_names.toml", "fine_rules.toml")])


@lru_cache(maxsize=1)
def _rules() -> Mapping[tuple[str, str], list[_Rule]]:
    """`(table, 4-type)` -> its compiled patterns with their votes."""
    tables = tomllib.loads((DATA / "fine_rules.toml").read_text("utf-8"))
    return {
        (table, coarse): [
            (_whole_words(pattern), _shares(types, coarse)) for types, pattern in tables[table][coarse].items()
        ]
        for table in tables
        for coarse in tables[table]
    }


def _whole_words(pattern: str) -> re.Pattern[str]:
    joined = "".join(pattern.splitlines())
    return re.compile(rf"\b(?:{joined})\b", re.IGNORECASE)


def _shares(types: str, coarse: str) -> Votes:
    """`"a b:2"` -> `{a: 1/3, b: 2/3}`."""
    parts = {name: float(share or 1) for name, _, share in (word.partition(":") for word in types.split())}
    if wrong := [name for name in parts if FINE_TO_COARSE4.get(name) != coarse]:
        raise ValueError(f"{wrong} are not types of {coarse}")
    return {name: share / sum(parts.values()) for name, share in parts.items()}


_REMEMBERED = 300
"""Largest length, in characters, of cached texts. Longer texts are contexts of long posts, which do not repeat."""


def _matching(table: Table, coarse: str, text: str) -> tuple[int, ...]:
    find = _votes_of if len(text) <= _REMEMBERED else _votes_of.__wrapped__
    return find(table, coarse, text)


@lru_cache(maxsize=4096)
def _votes_of(table: Table, coarse: str, text: str) -> tuple[int, ...]:
    if text.isascii():  # the same result in half the time
        text, patterns = text.lower(), _lower_case_patterns()[table, coarse]
        return tuple(i for i, pattern in enumerate(patterns) if pattern.search(text))
    return tuple(i for i, (pattern, _) in enumerate(_rules()[table, coarse]) if pattern.search(text))


@lru_cache(maxsize=1)
def _lower_case_patterns() -> Mapping[tuple[str, str], list[re.Pattern[str]]]:
    """The patterns of `_rules`, which are written in lower case, for text in lower case."""
    return {key: [re.compile(pattern.pattern) for pattern, _ in rules] for key, rules in _rules().items()}


def word_types(table: Table, coarse: str, text: str) -> Votes:
    """Sum of the votes of all rules of `table` for the 4-type `coarse` whose pattern occurs in `text`."""
    votes: Votes = {}
    for i in _matching(table, coarse, text):
        for fine, share in _rules()[table, coarse][i][1].items():
            votes[fine] = votes.get(fine, 0.0) + share
    return votes


def name_key(name: str) -> str:
    """The spelling for comparing names: only letters and digits, in lower case, without a leading `the`."""
    words = [w for w in re.split(r"[\W_]+", name.lower()) if w]
    return "".join(words[1:] if len(words) > 1 and words[0] == "the" else words)


@lru_cache(maxsize=1)
def names_by_type() -> Mapping[str, tuple[str, ...]]:
    """Fine type -> the names that the curated file lists under it, as written there."""
    groups = tomllib.loads((DATA / "fine_names.toml").read_text("utf-8"))
    return {
        fine: tuple(name for name in map(str.strip, listing.split(",")) if name)
        for types in groups.values()
        for fine, listing in types.items()
    }


@lru_cache(maxsize=1)
def known_names() -> Mapping[str, tuple[str, ...]]:
    """`name_key` -> the fine types that the curated file lists the name under."""
    names: dict[str, tuple[str, ...]] = {}
    for fine, listing in names_by_type().items():
        for key in {name_key(name) for name in listing} - {""}:
            names[key] = (*names.get(key, ()), fine)
    return names


def listed_types(coarse: str, name: str) -> Votes:
    """The curated file's types for `name` that are children of `coarse`, each an equal share."""
    fines = [f for f in known_names().get(name_key(name), ()) if FINE_TO_COARSE4[f] == coarse]
    return {fine: 1 / len(fines) for fine in fines}


def text_votes(coarse: str, words: Sequence[str], span: tuple[int, int], weights: TextWeights | None = None) -> Votes:
    """The votes of the names file, the mention's own words and the post's other words.

    Args:
        coarse: the mention's 4-type.
        words: the post's tokens.
        span: the mention's tokens, end exclusive.
        weights: weights of the three sources.
    """
    weights = weights or TextWeights()
    start, end = span
    name = " ".join(words[start:end])
    votes: Votes = {}
    add_votes(votes, listed_types(coarse, name), weights.listed)
    add_votes(votes, normalise(word_types("shape", coarse, split_joined(name))), weights.shape)
    around = split_joined(" ".join((*words[:start], "|", *words[end:])))
    add_votes(votes, word_types("context", coarse, around), weights.context)
    return votes


def blend(scores: Mapping[str, float], votes: Mapping[str, float], weight: float) -> dict[str, float]:
    """A distribution combined with votes: `(p + weight * v) / (sum p + weight * sum v)`, best first."""
    total = sum(scores.values()) + weight * sum(votes.values())
    mixed = {t: (scores.get(t, 0.0) + weight * votes.get(t, 0.0)) / total for t in (*scores, *(votes.keys() - scores))}
    return dict(sorted(mixed.items(), key=lambda item: -item[1]))


def split_joined(text: str) -> str:
    """`text` with run-together and underscored words separated: "GreenBayPackers" -> "Green Bay Packers"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", text)


def add_votes(votes: Votes, more: Mapping[str, float], weight: float = 1.0) -> None:
    """Add `weight * more` to `votes`, in place."""
    for fine, value in more.items():
        votes[fine] = votes.get(fine, 0.0) + weight * value


def normalise(votes: Mapping[str, float]) -> Votes:
    """The votes as shares of one; empty votes stay empty."""
    total = sum(votes.values())
    return {t: v / total for t, v in votes.items()} if total else {}
