"""Weak fine labels: evidence for the 51 types of gold mentions from recorded knowledge, curated lists and words.

GMNER has 4 types and no fine labels. Each of its gold mentions gets a distribution over the fine types below its type.
The distribution pools independent sources; each source votes with a fixed weight (`Weights`):

    hint       the `(type)` after the name in the post's recorded knowledge
    reason     "NAME is a ..." and "the ... NAME" in the knowledge's reasoning
    listed     the curated list of well-known names (tools/data/fine_names.toml)
    shape      words of the mention itself ("Lake", "University")
    context    words of the post around the mention
    elsewhere  the votes for the same name in the other posts of the split

Votes are added, not multiplied (a linear opinion pool), so one wrong source cannot veto a right one.

`python -m namepin.finetune.tagger.weak_report --root GMNER [--fmnerg FILE]` prints the coverage of the labels and the
accuracy of a simple classifier that learns from them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rapidfuzz import fuzz

from namepin.finetune.tagger.data import read_conll, read_knowledge, spans_of
from namepin.tools.errors import NamepinError
from namepin.tools.labels import COARSE4, FINE_TO_COARSE4
from namepin.tools.tagger.lexicon import (
    TextWeights,
    Votes,
    add_votes,
    listed_types,
    name_key,
    names_by_type,
    normalise,
    split_joined,
    text_votes,
    word_types,
)

_AFTER_NAME = re.compile(
    r"(?:'s|s)?,? (?:\([^)]*\) )?(?:who |which |that )?"
    r"(?:(?:is|was|are|were|refers?|likely|probably|may|could|be|also|most|a|an|the|to)\b,? ?)+([^.,;]{3,80})",
    re.IGNORECASE,
)
_BEFORE_NAME = re.compile(
    r"\b(?:the|a|an|american|british|former|by|actor|actress|singer) ((?:[\w/-]+ ){1,4})$", re.IGNORECASE
)


@dataclass(frozen=True)
class Weights:
    """Weight of one full vote of each source."""

    hint: float = 1.0
    reason: float = 0.5
    text: TextWeights = TextWeights()
    elsewhere: float = 1.0
    prior: float = 0.25
    """Weight of the prior: the fine types of the 4-type's well-covered mentions. It softens thin evidence."""


@dataclass(frozen=True)
class Note:
    """A row of the knowledge's numbered list: a name and the words in its brackets."""

    name: str
    hint: str


@dataclass(frozen=True)
class MentionEvidence:
    """A gold mention and the votes for its fine type."""

    post: str
    name: str
    coarse: str
    words: tuple[str, ...]
    span: tuple[int, int]
    votes: Votes = field(default_factory=dict)


def weak_fine_labels(root: Path, split: str, weights: Weights | None = None) -> dict[str, list[dict[str, float]]]:
    """Distributions over fine types for a GMNER split.

    Args:
        root: the gmner folder (`txt/`, `knowledge/`).
        split: `train` or `dev`.
        weights: weights of the sources of evidence.

    Returns:
        Post id -> one distribution per gold mention, in text order. Each sums to 1 over the fine types below the
        mention's 4-type; an empty distribution means that there is no evidence.

    Raises:
        NamepinError: E130 when the split or its knowledge is missing, E134 to E139 as `read_knowledge`.
    """
    weights = weights or Weights()
    mentions = list(pool_votes(evidence(root, split, weights), weights))
    spread = priors(mentions)
    labels: dict[str, list[dict[str, float]]] = {}
    for mention, votes in mentions:
        if votes:
            add_votes(votes, spread[mention.coarse], weights.prior)
        labels.setdefault(mention.post, []).append(distribution(votes))
    return labels


def evidence(root: Path, split: str, weights: Weights | None = None) -> list[MentionEvidence]:
    """Every gold mention of the split, in file order, with its own post's votes."""
    weights = weights or Weights()
    texts, knowledge = root / "txt" / f"{split}.txt", root / "knowledge" / f"{split}.jsonl"
    for file in (texts, knowledge):
        if not file.is_file():
            raise NamepinError("E130", f"no {file.parent.name}/{file.name}", where=str(root), mend="check --root")
    posts = list(read_conll(texts))
    recorded = read_knowledge(knowledge, [post for post, _, _ in posts], mixed=split == "train")
    found = []
    for post, words, tags in posts:
        notes, reasoning = parse_knowledge(recorded.get(post, [""])[-1])
        for start, end, coarse in spans_of([columns[0] for columns in tags]):
            name = " ".join(words[start:end])
            votes = text_votes(coarse, words, (start, end), weights.text)
            add_votes(votes, knowledge_votes(coarse, name, notes, reasoning, weights))
            found.append(MentionEvidence(post, name, coarse, tuple(words), (start, end), votes))
    return found


def parse_knowledge(text: str) -> tuple[list[Note], str]:
    """The numbered list of names with their hints, and the reasoning after it."""
    head, _, reasoning = text.partition("Reasoning")
    notes = []
    # A new row begins at "2." after a blank, a bracket or a full stop; names may hold digits and dots themselves.
    for item in re.split(r"(?:(?<=[\s:.;,)])|^)\d{1,2}\s*\.\s*(?!\d)", head)[1:]:
        matched = re.match(r"\s*[\"'“]?(.+?)[\"'”]?\s*(?:\(([^()]*)\)|[-–:]\s+(.+))", item.strip())
        if matched:
            notes.append(Note(matched[1].strip(" #@"), (matched[2] or matched[3] or "").lower()))
    return notes, reasoning.lstrip(": \n")


def knowledge_votes(coarse: str, name: str, notes: Sequence[Note], reasoning: str, weights: Weights) -> Votes:
    """Votes of a post's knowledge for `name`: the hint of its row, the full name's list entry, the reasoning."""
    votes: Votes = {}
    names = [name]
    if note := best_note(name, notes):
        names.append(note.name)
        add_votes(votes, normalise(word_types("hint", coarse, note.hint)), weights.hint)
        if name_key(note.name) != name_key(name):
            add_votes(votes, listed_types(coarse, note.name), weights.text.listed / 2)
    clauses = " . ".join(said_of(names, reasoning))
    add_votes(votes, normalise(word_types("hint", coarse, clauses)), weights.reason)
    return votes


def best_note(name: str, notes: Sequence[Note]) -> Note | None:
    """The row about `name`: the same spelling, else one name's words within the other's, else a near spelling."""
    key, words = name_key(name), set(split_joined(name).lower().split())
    best, best_score = None, 0.0
    for note in notes:
        other = name_key(note.name)
        if not key or not other:
            continue
        other_words = set(split_joined(note.name).lower().split())
        shared = words & other_words
        if key == other:
            score = 3.0
        elif shared and (shared == words or shared == other_words):
            score = 2.0 + len(shared) / max(len(words), len(other_words))
        elif len(key) > 4 and len(other) > 4 and (key in other or other in key):
            score = 1.5
        else:
            score = fuzz.ratio(key, other) / 100 if min(len(key), len(other)) > 4 else 0
            score = score if score >= 0.84 else 0
        if score > best_score:
            best, best_score = note, score
    return best


def said_of(names: Sequence[str], reasoning: str) -> Iterator[str]:
    """Noun phrases that `reasoning` ties to one of the names: "NAME is/refers to/, a ..." and "the ... NAME"."""
    text = reasoning.lower()
    for name in dict.fromkeys(name.strip(" @#").lower() for name in names):
        at = text.find(name) if len(name) > 2 else -1
        while at >= 0:
            end = at + len(name)
            # Only whole names match: "Ali" is not in "Alice".
            if not (text[at - 1 : at].isalnum() or text[end : end + 1].isalnum() and text[end : end + 2] != "s "):
                before, after = _BEFORE_NAME.search(text[max(0, at - 60) : at]), _AFTER_NAME.match(text, end)
                yield from (matched[1] for matched in (before, after) if matched)
            at = text.find(name, end)


def pool_votes(
    mentions: Sequence[MentionEvidence], weights: Weights | None = None
) -> Iterator[tuple[MentionEvidence, Votes]]:
    """Each mention with its own votes plus the mean votes of the same name and 4-type in other posts."""
    weights = weights or Weights()
    totals: dict[tuple[str, str], Votes] = {}
    counts: dict[tuple[str, str], int] = {}
    for mention in mentions:
        key = (mention.coarse, name_key(mention.name))
        add_votes(totals.setdefault(key, {}), mention.votes)
        counts[key] = counts.get(key, 0) + bool(mention.votes)
    for mention in mentions:
        key = (mention.coarse, name_key(mention.name))
        others = counts[key] - bool(mention.votes)
        votes = dict(mention.votes)
        if others:
            rest = {t: max(0.0, v - mention.votes.get(t, 0.0)) for t, v in totals[key].items()}
            # Two posts that agree count as one vote, ten as nearly two.
            add_votes(votes, rest, weights.elsewhere * 2 / (1 + others))
        yield mention, votes


def priors(mentions: Sequence[tuple[MentionEvidence, Votes]], enough: float = 1.0) -> dict[str, Votes]:
    """4-type -> mean distribution of its mentions whose votes add up to `enough`."""
    spread: dict[str, Votes] = {coarse: {} for coarse in COARSE4}
    for mention, votes in mentions:
        if sum(votes.values()) >= enough:
            add_votes(spread[mention.coarse], normalise(votes))
    return {coarse: normalise(votes) for coarse, votes in spread.items()}


def distribution(votes: Mapping[str, float], least: float = 0.02) -> dict[str, float]:
    """Votes as probabilities, best first, without probabilities below `least`."""
    total = sum(votes.values())
    likely = {t: v for t, v in votes.items() if total > 0 and v / total >= least}
    total = sum(likely.values())
    return {t: v / total for t, v in sorted(likely.items(), key=lambda item: -item[1])}


def listed_mentions() -> list[tuple[tuple[str, ...], str, dict[str, float]]]:
    """The lexicon's names as training material: tokens, 4-type, distribution over fine types."""
    mentions = []
    for fine, names in names_by_type().items():
        coarse = FINE_TO_COARSE4[fine]
        for name in names:
            # GMNER splits names at punctuation: "B.B. King" is B . B . King
            mentions.append((tuple(re.findall(r"\w+|[^\w\s]", name)), coarse, listed_types(coarse, name)))
    return mentions
