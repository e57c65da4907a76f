"""The tagger's training data: annotated posts, augmentation, and batches with their targets."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor

from namepin.evals.datasets.fmnerg import knowledge_root
from namepin.tools.errors import NamepinError
from namepin.tools.jsonl import read_placed_rows
from namepin.tools.labels import canonical_label
from namepin.tools.nets.crf import FORBIDDEN
from namepin.tools.nets.dual_tagger import TaggerBatch
from namepin.tools.tagger.adapter import TaggerSpec
from namepin.tools.tagger.rows import KnowledgeInput, Row, RowBuilder, collate

FineWeights = Mapping[str, float]
"""Distribution over fine types; empty if unknown."""


@dataclass(frozen=True)
class Span:
    """A gold mention: words `start:end`, its coarse type, and a distribution over fine types."""

    start: int
    end: int
    coarse: str
    fine: FineWeights = field(default_factory=dict)


@dataclass(frozen=True)
class Example:
    """An annotated post."""

    id: str
    words: tuple[str, ...]
    spans: tuple[Span, ...]
    knowledge: str | None = None


def read_conll(file: Path) -> Iterator[tuple[str, list[str], list[list[str]]]]:
    """Posts of a CoNLL file: id (`IMGID:x`, else the line number), words, and the tag columns of each word."""
    post, words, tags = "", [], []
    for number, line in enumerate([*file.read_text("utf-8-sig").split("\n"), ""], 1):
        if line.startswith("IMGID:"):
            post = line[6:].strip()
        elif "\t" in line and line.split("\t")[0].strip():
            word, *columns = line.rstrip("\r").split("\t")
            words.append(word)
            tags.append(columns)
        elif words:
            yield post or str(number), words, tags
            post, words, tags = "", [], []


def spans_of(tags: Sequence[str]) -> list[tuple[int, int, str]]:
    """Mentions `(start, end, type)` of BIO tags. An `I-` that continues nothing begins a mention.

    `MISC` is another name of GMNER's `OTHER`.
    """
    spans: list[tuple[int, int, str]] = []
    for i, tag in enumerate(tags):
        if tag == "O":
            continue
        kind = "OTHER" if tag[2:] == "MISC" else tag[2:]
        continues = tag.startswith("I-") and spans and spans[-1][1] == i and spans[-1][2] == kind
        if continues:
            spans[-1] = (spans[-1][0], i + 1, kind)
        else:
            spans.append((i, i + 1, kind))
    return spans


def read_gmner(root: Path, split: str, fine: Mapping[str, Sequence[FineWeights]] | None = None) -> list[Example]:
    """A GMNER split with its recorded knowledge and, if given, weak fine labels (one per mention, in text order)."""
    return _read_coarse(root, root / "txt" / f"{split}.txt", fine)


def read_twitter(root: Path, file: Path) -> list[Example]:
    """A file of Twitter-2015 or Twitter-2017 (`train.txt`, `valid.txt`) with its recorded knowledge."""
    return _read_coarse(root, file)


def _read_coarse(root: Path, file: Path, fine: Mapping[str, Sequence[FineWeights]] | None = None) -> list[Example]:
    posts = list(read_conll(file))
    knowledge = _knowledge(root, file.stem, [post for post, _, _ in posts])
    examples = []
    for post, words, tags in posts:
        found = spans_of([columns[0] for columns in tags])
        weak = (fine or {}).get(post, [{}] * len(found))
        spans = tuple(Span(*span, fine=dict(w)) for span, w in zip(found, weak, strict=True))
        examples += [Example(post, tuple(words), spans, known) for known in knowledge.get(post) or [None]]
    return examples


def _knowledge(root: Path, split: str, posts: Collection[str]) -> Mapping[str, Sequence[str | None]]:
    file = root / "knowledge" / f"{split}.jsonl"
    return read_knowledge(file, posts, mixed=split == "train") if file.is_file() else {}


class KnowledgeRow(BaseModel):
    """A row of recorded knowledge. Its other keys, such as the model, are ignored."""

    id: str | int
    knowledge: str


def read_knowledge(file: Path, posts: Collection[str], *, mixed: bool) -> dict[str, list[str]]:
    """The recorded knowledge of each post. Several rows per post come from several models (RiVEG's "Mix").

    Args:
        file: JSONL of `{"id", "knowledge"}`.
        posts: ids of the split's posts.
        mixed: whether a post may have several rows.

    Raises:
        NamepinError: E134 when a row cannot be understood, E135 when none is of a post of the split, E139 when a post
            has several rows and may not.
    """
    found: dict[str, list[str]] = {}
    mend = 'a row is {"id", "knowledge"}'
    for where, row in read_placed_rows(file, KnowledgeRow.model_validate, "a row of recorded knowledge", mend):
        texts = found.setdefault(str(row.id), [])
        if texts and not mixed:
            what = f"post {str(row.id)!r} has several rows of knowledge; only train may mix several models"
            raise NamepinError("E139", what, where=where, mend="keep one row per post")
        texts.append(row.knowledge)
    if found.keys().isdisjoint(posts):
        what = f"none of its {len(found)} posts is in the split"
        raise NamepinError("E135", what, where=str(file), mend="record this split's knowledge, or move the file away")
    return found


def read_fmnerg(root: Path, split: str, spec: TaggerSpec) -> list[Example]:
    """An FMNERG split: gold fine types, each with its coarse type in the scheme, and the posts' recorded knowledge."""
    posts = list(read_conll(root / "txt_fine" / f"{split}.txt"))
    knowledge = _knowledge(knowledge_root(root, split), split, [post for post, _, _ in posts])
    examples = []
    for post, words, tags in posts:
        found = [
            (a, b, canonical_label(kind, "fmnerg51")) for a, b, kind in spans_of([columns[-1] for columns in tags])
        ]
        spans = tuple(Span(a, b, spec.parents[kind], {kind: 1.0}) for a, b, kind in found)
        examples += [Example(post, tuple(words), spans, known) for known in knowledge.get(post) or [None]]
    return examples


_CCBY_TYPES = {
    "person": "PER",
    "location": "LOC",
    "corporation": "ORG",
    "group": "ORG",
    "product": "OTHER",
    "creative-work": "OTHER",
}


def ccby_files(root: Path) -> list[Path]:
    """The files that `read_ccby` reads."""
    return sorted([*(root / "btc").glob("*.conll"), *(root / "wnut17").glob("*")])


def read_ccby(root: Path) -> list[Example]:
    """The CC-BY tweets (Broad Twitter Corpus, WNUT-17) in GMNER's form: `@` and `#` apart, handles are not names."""
    examples = []
    for file in ccby_files(root):
        for post, words, tags in read_conll(file):
            if len(words) > 60:
                continue
            examples.append(_split_marks(f"{file.stem}-{post}", words, [columns[-1] for columns in tags]))
    return examples


def _split_marks(post: str, words: Sequence[str], tags: Sequence[str]) -> Example:
    new_words: list[str] = []
    new_tags: list[str] = []
    for word, tag in zip(words, tags, strict=True):
        if len(word) > 1 and word[0] in "@#":
            new_words += [word[0], word[1:]]
            # BTC tags handles as PER, which GMNER does not.
            new_tags += ["O", "O" if word[0] == "@" else tag]
        else:
            new_words.append(word)
            new_tags.append("O" if new_words[-2:-1] == ["@"] else tag)
    spans = [Span(a, b, _CCBY_TYPES.get(t, t)) for a, b, t in spans_of(new_tags)]
    return Example(post, tuple(new_words), tuple(spans))


Within = Literal["coarse", "fine"]
"""Whether mentions are swapped within their coarse type or within their fine one."""


def swap_mentions(example: Example, pool: Mapping[str, Sequence[tuple[tuple[str, ...], Span]]], rng: random.Random,
                  rate: float, within: Within = "coarse") -> Example:  # fmt: skip
    """Replace each mention, at `rate`, by one of its type from another post; the knowledge is dropped."""
    words: list[str] = []
    spans, at = [], 0
    for span in example.spans:
        words += example.words[at : span.start]
        name, fine = example.words[span.start : span.end], span.fine
        if rng.random() < rate:
            name, other = rng.choice(pool[_swap_type(span, within)])
            fine = other.fine
        spans.append(Span(len(words), len(words) + len(name), span.coarse, fine))
        words += name
        at = span.end
    words += example.words[at:]
    return replace(example, words=tuple(words), spans=tuple(spans), knowledge=None)


def mention_pool(
    examples: Sequence[Example], within: Within = "coarse"
) -> dict[str, list[tuple[tuple[str, ...], Span]]]:
    """Type -> its mentions, as often as they occur."""
    pool: dict[str, list[tuple[tuple[str, ...], Span]]] = {}
    for example in examples:
        for span in example.spans:
            pool.setdefault(_swap_type(span, within), []).append((example.words[span.start : span.end], span))
    return pool


def _swap_type(span: Span, within: Within) -> str:
    return max(span.fine, key=lambda kind: span.fine[kind]) if within == "fine" and span.fine else span.coarse


@dataclass(frozen=True)
class Targets:
    """The targets of a batch.

    Attributes:
        coarse: `(B, W)` gold tags of the coarse path.
        fine: `(B, W, F)` log-weights of the fine tags: `FORBIDDEN` where the annotation excludes one.
        spans: `(row, start, end)` per mention with a known fine type.
        span_weights: `(len(spans), types)` the distribution over its fine types.
    """

    coarse: Tensor
    fine: Tensor | None
    spans: list[tuple[int, int, int]]
    span_weights: Tensor

    def to(self, device: torch.device) -> "Targets":
        """The same targets on a device."""
        fine = None if self.fine is None else self.fine.to(device)
        return Targets(self.coarse.to(device), fine, self.spans, self.span_weights.to(device))


class Batcher:
    """Turns examples into batches for one specification."""

    def __init__(self, builder: RowBuilder, spec: TaggerSpec) -> None:
        self.builder, self.spec = builder, spec
        self.coarse = {name: i for i, name in enumerate(spec.coarse_types)}
        children: dict[str, list[int]] = {name: [] for name in spec.coarse_types}
        for i, fine in enumerate(spec.fine_types):
            children[spec.parents[fine]].append(i)
        self.children = {name: np.array(ids, dtype=int) for name, ids in children.items()}
        self.fine = {name: i for i, name in enumerate(spec.fine_types)}
        self._knowledge: dict[str, KnowledgeInput | None] = {}

    def knowledge(self, example: Example) -> KnowledgeInput | None:
        """The example's knowledge, prepared once."""
        if example.knowledge is None:
            return None
        if example.knowledge not in self._knowledge:
            self._knowledge[example.knowledge] = self.builder.knowledge(example.knowledge)
        return self._knowledge[example.knowledge]

    def fine_distribution(self, span: Span) -> "np.ndarray[Any, Any]":
        """`(types,)`: the span's fine weights within its coarse type; equal weights if the fine type is unknown."""
        weights = np.zeros(len(self.fine))
        children = self.children[span.coarse]
        for name, weight in span.fine.items():
            weights[self.fine[name]] = weight
        weights[np.setdiff1d(np.arange(len(weights)), children)] = 0
        if weights.sum() <= 0:
            weights[children] = 1
        weights /= weights.sum()
        return weights

    def batch(self, items: Sequence[tuple[Example, bool]]) -> tuple[TaggerBatch, Targets]:
        """Rows and targets of `(example, with its knowledge?)` pairs."""
        rows: list[Row] = []
        for example, informed in items:
            rows += self.builder.rows(example.words, self.knowledge(example) if informed else None)[:1]
        batch = collate(rows, self.builder.tokenizer.pad_token_id or 0)
        size, words = batch.word_mask.shape
        coarse = np.zeros((size, words), dtype=np.int64)
        fine = np.full((size, words, 2 * len(self.fine) + 1), FORBIDDEN, dtype=np.float32)
        fine[:, :, 0] = 0
        known, weights = [], []
        for b, (example, _) in enumerate(items):
            for span in example.spans:
                kind = self.coarse[span.coarse]
                coarse[b, span.start] = 2 * kind + 1
                coarse[b, span.start + 1 : span.end] = 2 * kind + 2
                if not self.fine:
                    continue
                share = self.fine_distribution(span)
                allowed = np.flatnonzero(share)
                fine[b, span.start : span.end, 0] = FORBIDDEN
                # The weight counts once per mention: on the first word. The other words only exclude.
                fine[b, span.start, 2 * allowed + 1] = np.log(share[allowed]) if span.fine else 0
                fine[b, span.start + 1 : span.end, 2 * allowed[:, None] + 2] = 0
                if span.fine:
                    known.append((b, span.start, span.end))
                    weights.append(share)
        shares = torch.tensor(np.array(weights).reshape(len(weights), len(self.fine)), dtype=torch.float32)
        return batch, Targets(torch.from_numpy(coarse), torch.from_numpy(fine) if self.fine else None, known, shares)


def by_length(items: Sequence[tuple[Example, bool]], size: int, rng: random.Random | None,
              knowledge_pieces: int = 64) -> list[list[tuple[Example, bool]]]:  # fmt: skip
    """Batches of `size` items of like length; shuffled when `rng` is given, else longest first.

    A batch of fewer items is the last one.
    """

    def length(item: tuple[Example, bool]) -> int:
        example, informed = item
        return len(example.words) + (knowledge_pieces if informed and example.knowledge else 0)

    order = list(items)
    if rng is None:
        order.sort(key=length, reverse=True)
        return [order[i : i + size] for i in range(0, len(order), size)]
    rng.shuffle(order)
    chunk = size * 50
    batches = []
    for i in range(0, len(order), chunk):
        part = sorted(order[i : i + chunk], key=length)
        batches += [part[j : j + size] for j in range(0, len(part), size)]
    rng.shuffle(batches)
    return sorted(batches, key=lambda batch: len(batch) < size)
