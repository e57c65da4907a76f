"""The tagger: finds a post's mentions, and their types at two granularities (GEM section 3.2)."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.concurrency import return_free_memory
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest, Tags
from namepin.tools.knowledge.styles import same_style
from namepin.tools.loading.pretrained import device_named
from namepin.tools.media import Media
from namepin.tools.nets.crf import CRF, bio_tags
from namepin.tools.nets.dual_tagger import DualTaggerNet, pooled_scores
from namepin.tools.nets.low_precision import Precision, lower_precision, native_precision
from namepin.tools.nets.threads import map_passes
from namepin.tools.tagger.adapter import Manifest, load_adapter
from namepin.tools.tagger.calibration import Calibration, read_calibration
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.lexicon import Votes, blend, lexicon_sha256, text_votes
from namepin.tools.tagger.pretrained import find_adapter, push_tagger, save_tagger
from namepin.tools.tagger.rows import Row, RowBuilder, collate
from namepin.tools.text import tweet_tokens
from namepin.tools.types import Mention, Notice, token_offsets

Label = Literal["PER", "LOC", "ORG", "OTHER"]
_NEAR = 40
"""Words on each side of a mention that the lexicon reads; a tweet has fewer."""


_Span = tuple[int, int, int]
"""A mention's first word, the word after it, and the index of its type."""

_PROBE = (
    "RT @ NASA : Eileen Collins , the first woman to command a Space Shuttle , met Angelina Jolie in Rotterdam at the "
    "Harbour Jazz Festival # jazz http://t.co/x So proud of the Chicago Bulls and Taylor Swift tonight !"
)
_FORMATS: Mapping[Precision, str] = {"bfloat16": "bfloat16-2", "int8": "int8"}
"""Names of the number formats in fingerprints: raise the number when results in a format change."""

_PIECES, _CPU_PIECES = 4096, 640
"""Largest number of word pieces in a batch, for the memory's sake. A CPU is as fast with few."""

_DECODED = 32
"""Largest number of posts that a CRF decodes at a time, so that a step's scores stay in the processor's cache."""

_CLOSE = 0.05
"""Largest relative error of the self-test's logits."""


@dataclass
class _Post:
    """A request in progress: its words, their offsets, and the logits so far."""

    request: TagRequest
    words: tuple[str, ...]
    offsets: tuple[tuple[int, int], ...]
    rows: list[Row]
    coarse: Tensor
    fine: Tensor | None


class DualTagger:
    """The tool around a `DualTaggerNet`.

    It reads texts of any length in full. A long text takes several rows; their logits are joined before the CRF decodes
    the whole post at once.
    """

    name: ClassVar[str] = "tagger"
    version: ClassVar[int] = 1
    _map: ClassVar[Callable[..., Iterable[None]]] = staticmethod(map_passes)

    def __init__(self, config: TaggerConfig) -> None:
        """Load the adapter and its encoder.

        Raises:
            NamepinError: E210-E213 when weights are missing, damaged or do not fit; see docs/errors.md.
        """
        folder = find_adapter(config.adapter)
        net, builder, manifest = load_adapter(folder)
        self.folder: Path | None = folder
        calibration = read_calibration(folder, manifest.weights_sha256)
        self._set(config, net.to(device_named(config.device)), builder, manifest, calibration)
        self._lower_precision()

    @classmethod
    def of(cls, net: DualTaggerNet, builder: RowBuilder, manifest: Manifest, config: TaggerConfig) -> "DualTagger":
        """A tagger around a net that is already in memory, on the device of `config`, as training evaluates it."""
        self = cls.__new__(cls)
        self.folder = None
        self._set(config, net, builder, manifest)
        return self

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None, **settings: Any) -> "DualTagger":
        """Load a trained tagger.

            tagger = DualTagger.from_pretrained("you/your-tagger")

        Args:
            name: a folder, a repository of the hub, or the name of an adapter that ships with Namepin.
            revision: a repository's branch, tag or commit.
            settings: other settings of `TaggerConfig`, such as `device`.

        Raises:
            NamepinError: as the constructor; E213 when the hub does not provide it.
        """
        return cls(TaggerConfig(adapter=str(find_adapter(str(name), revision)), **settings))

    def save_pretrained(self, folder: str | Path) -> None:
        """Save the tagger for `from_pretrained`, and for a profile's `tagger.adapter`.

        Raises:
            NamepinError: E210 for a tagger that was not loaded from a folder, E500 when it cannot be written.
        """
        save_tagger(self._own_folder(), Path(folder))

    def push_to_hub(self, name: str, *, private: bool = False, token: str | None = None) -> str:
        """Upload the tagger to a repository of the hub, and return the commit.

        Args:
            name: the repository, `OWNER/NAME`; it is created if it is missing.
            private: whether a new repository is private.
            token: the hub's token; None for the one of `hf auth login` or HF_TOKEN.

        Raises:
            NamepinError: as `save_pretrained`; E229 when the hub does not take it.
        """
        with TemporaryDirectory() as folder:
            save_tagger(self._own_folder(), Path(folder), name)
            return push_tagger(Path(folder), name, private, token)

    def _own_folder(self) -> Path:
        if self.folder is None:
            raise NamepinError("E210", "this tagger is in memory only", mend="save its training run, and load that")
        return self.folder

    def _set(
        self,
        config: TaggerConfig,
        net: DualTaggerNet,
        builder: RowBuilder,
        manifest: Manifest,
        calibration: Calibration | None = None,
    ) -> None:
        self.config, self.manifest, self.spec = config, manifest, manifest.spec
        self.precision: Precision = "float32"
        self.net, self.builder = net, builder
        self._spans = config.spans if self.spec.fine_types else "coarse"
        coarse, fine = bio_tags(self.spec.coarse_types), bio_tags(self.spec.fine_types)
        self._lift = torch.tensor([[float(one == self._coarse_tag(other)) for other in fine] for one in coarse])
        self._calibration = calibration if calibration and calibration.fits(config) else None

    def _coarse_tag(self, fine_tag: str) -> str:
        prefix, _, kind = fine_tag.partition("-")
        return f"{prefix}-{self.spec.parents[kind]}" if kind else fine_tag

    @property
    def fingerprint(self) -> str:
        """Covers config, architecture, both weight files and, where they are used, the lexicon and the calibration.

        Batch size and device are left out: they change only the last bits.
        """
        decides = self.config.model_dump(mode="json", exclude={"adapter", "batch_size", "device", "precision"})
        if self.precision != "float32":
            decides["precision"] = _FORMATS[self.precision]
        # Newer settings count only if they are used, so that older recordings stay valid.
        later = {"input": {"fine_hints"}} if not self.spec.input.fine_hints else {}
        spec = self.spec.model_dump(mode="json", exclude={"encoder": True, **later})
        if self.config.lexicon:
            decides["lexicon_sha256"] = lexicon_sha256()
        if self._calibration:
            decides["calibration"] = self._calibration.points
        weights = f"{self.manifest.encoder_sha256}+{self.manifest.weights_sha256}"
        return fingerprint(self.name, self.version, {**decides, "spec": spec}, weights=weights)

    def warm(self) -> None:
        """Run the net once."""
        self.run([TagRequest(text=_PROBE)], Media())

    def _lower_precision(self) -> None:
        """Let the encoder compute in the format of the config; `auto` returns to float32 if it fails its self-test.

        Raises:
            NamepinError: E203 for another format than float32 on another device than the CPU.
        """
        chosen = self.config.precision
        if chosen == "float32":
            return
        if self.config.device != "cpu":
            what = f"{chosen} is a format for CPUs, and the device is {self.config.device}"
            raise NamepinError("E203", what, where="tagger.precision", mend="leave one of the two out")
        self.precision = native_precision() if chosen == "auto" else chosen
        exact, encoder = self._probe(), self.net.encoder
        self.net.encoder = copy.deepcopy(encoder)
        lower_precision(self.net.encoder, self.precision)
        if chosen == "auto" and not _agree(exact, self._probe()):
            self.net.encoder, self.precision = encoder, "float32"

    @torch.inference_mode()
    def _probe(self) -> Tensor:
        """Coarse logits of a fixed text, for the self-test."""
        post = self._lay_out(TagRequest(text=_PROBE))
        self._read([post])
        return post.coarse

    def run(self, requests: Sequence[TagRequest], media: Media) -> list[Tags]:
        """The mentions of every request, in order. `media` is not used: the tagger reads text only."""
        results: list[Tags] = []
        # In portions, so that the logits of a long list do not fill the memory.
        portion = 4 * self.config.batch_size
        for i in range(0, len(requests), portion):
            posts = [self._lay_out(request) for request in requests[i : i + portion]]
            self._read(posts)
            results += self._answer(posts)
        return results

    def _lay_out(self, request: TagRequest) -> _Post:
        words = request.tokens if request.tokens is not None else tweet_tokens(request.text)
        rows = self.builder.rows(words, self.builder.knowledge(request.knowledge)) if words else []
        # With `crf_scope=all`, a post in one row is decoded together with its separator and knowledge.
        length = len(rows[0].word_pieces) if len(rows) == 1 else len(words)
        coarse = torch.zeros(length, 2 * len(self.spec.coarse_types) + 1)
        fine = torch.zeros(length, 2 * len(self.spec.fine_types) + 1) if self.spec.fine_types else None
        return _Post(request, words, token_offsets(request.text, words), rows, coarse, fine)

    def _read(self, posts: Sequence[_Post]) -> None:
        """Run the net over all rows, in batches of similar length, and add each word's logits to its post."""
        order = sorted(((post, row) for post in posts for row in post.rows), key=lambda pair: -len(pair[1].piece_ids))
        on_cpu = self.config.device == "cpu"
        batches = list(_batches(order, self.config.batch_size, _CPU_PIECES if on_cpu else _PIECES))
        list((self._map if on_cpu else map)(self._pass, batches))
        if len(batches) > 1:
            return_free_memory()  # now that nothing of a pass is in use between what is free

    @torch.inference_mode()
    def _pass(self, batch: Sequence[tuple[_Post, Row]]) -> None:
        rows = collate([row for _, row in batch], self.builder.tokenizer.pad_token_id or 0)
        logits = self.net(rows.to(self.config.device))
        for b, (post, row) in enumerate(batch):
            first, last = row.keep if len(post.rows) > 1 else (0, len(post.coarse))
            inside = slice(first - row.first, last - row.first)
            post.coarse[first:last] = logits.coarse[b, inside].cpu()
            if post.fine is not None:
                post.fine[first:last] = logits.fine[b, inside].cpu()

    def _answer(self, posts: Sequence[_Post]) -> list[Tags]:
        if self._spans == "coarse" or self.net.fine is None:
            tags = _decode(self.net.coarse.crf, [post.coarse for post in posts])
        else:
            logits = [(post.coarse, post.fine) for post in posts if post.fine is not None]
            with_coarse = self._spans == "joint"
            tags = _decode(self.net.fine.crf, [f + c @ self._lift if with_coarse else f for c, f in logits])
        spans = [list(tag_spans(path[: len(post.words)])) for post, path in zip(posts, tags, strict=True)]
        shares = iter(self._shares(posts, spans))
        return [
            Tags(
                tokens=post.words, mentions=tuple(self._mentions(post, own, shares)), notices=tuple(self._notices(post))
            )
            for post, own in zip(posts, spans, strict=True)
        ]

    def _shares(self, posts: Sequence[_Post], spans: Sequence[Sequence[_Span]]) -> list[list[float]]:
        """The pooled scores of all mentions, one after the other; all at once, since each call of torch takes long."""
        means = []
        for post, own in zip(posts, spans, strict=True):
            logits = (post.coarse if post.fine is None else post.fine).double() if own else None
            means += [logits[first:last].mean(0) for first, last, _ in own if logits is not None]
        return cast(list[list[float]], pooled_scores(torch.stack(means), self.config.merge).tolist()) if means else []

    def _mentions(self, post: _Post, spans: Sequence[_Span], shares: Iterator[list[float]]) -> Iterator[Mention]:
        for index, (first, last, kind) in enumerate(spans):
            start, end = post.offsets[first][0], post.offsets[last - 1][1]
            label, fine_label, scores, entropy = self._types(post, first, last, kind, next(shares))
            yield Mention(
                index=index,
                text=post.request.text[start:end],
                start=start,
                end=end,
                token_span=(first, last),
                label=label,
                fine_label=fine_label,
                scores=scores,
                entropy=entropy,
                confidence=self._confidence(scores[fine_label or label]),
            )

    def _confidence(self, score: float) -> float | None:
        """The probability that a mention's span and type are right, from the score of its type."""
        return self._calibration.probability(score) if self._calibration else None

    def _types(
        self, post: _Post, first: int, last: int, kind: int, pooled: Sequence[float]
    ) -> tuple[Label, str | None, dict[str, float], float]:
        """Label, fine label, pooled scores (best first) and their entropy of one mention."""
        types = self.spec.coarse_types if post.fine is None else self.spec.fine_types
        shares = dict(zip(types, pooled, strict=True))
        coarse = self.spec.coarse_types[kind] if self._spans == "coarse" else self.spec.parents[types[kind]]
        label = cast(Label, self.spec.to_coarse4(coarse))
        if post.fine is not None and self.config.lexicon:
            shares = blend(shares, self._votes(post.words, first, last, label), self.config.lexicon)
        entropy = -sum(share * math.log(share) for share in shares.values() if share > 0)
        # Six decimals: further ones depend on batch shapes.
        scores = {name: round(share, 6) for name, share in sorted(shares.items(), key=lambda pair: -pair[1])}
        fine: str | None = None
        if self._spans == "fine":
            fine = types[kind]
        elif post.fine is not None:
            fine = next(name for name in scores if self.spec.parents[name] == coarse)
        return label, fine, scores, round(max(0.0, entropy), 6)

    @staticmethod
    def _votes(words: Sequence[str], first: int, last: int, label: Label) -> Votes:
        """The lexicon's votes for a mention, from the words near it; distant parts of a long post are ignored."""
        left, right = max(0, first - _NEAR), last + _NEAR
        return text_votes(label, words[left:right], (first - left, last - left))

    def _notices(self, post: _Post) -> Iterator[Notice]:
        request, trained = post.request, self.manifest.knowledge_style
        if request.knowledge and request.knowledge_style and not same_style(request.knowledge_style, trained):
            seen = f"on knowledge in the style {trained!r}" if trained else "without knowledge"
            message = f"the adapter was trained {seen}, this is {request.knowledge_style!r}: expect less of it"
            yield Notice(code="W112", tool=self.name, message=message)
        if any(row.knowledge_cut for row in post.rows):
            message = "the text leaves no room for all of the knowledge: it was cut, the text was not"
            yield Notice(code="W113", tool=self.name, message=message)


def _batches(rows: Sequence[tuple[_Post, Row]], most: int, pieces: int) -> Iterator[Sequence[tuple[_Post, Row]]]:
    """Batches of at most `most` rows and `pieces` word pieces with padding, of rows that are sorted by falling length.

    A batch that is half full ends where the next row would be padded by more than a fifth.
    """
    first, full = 0, 0
    for i, (_, row) in enumerate(rows):
        count, longest = i - first, len(rows[first][1].piece_ids)
        if count == full or (2 * count >= full and len(row.piece_ids) < 0.8 * longest):
            if i:
                yield rows[first:i]
            first, full = i, max(1, min(most, pieces // len(row.piece_ids)))
    if rows:
        yield rows[first:]


def _agree(exact: Tensor, other: Tensor) -> bool:
    """Whether another number format gives the same best tags and close logits."""
    same = bool((exact.argmax(1) == other.argmax(1)).all())
    return same and float((exact - other).norm() / exact.norm()) <= _CLOSE


def tag_spans(tags: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Mentions `(first word, end, type index)` of a path's tags, numbered as `namepin.tools.nets.crf.bio_tags` does.

    An `I-` that does not continue a mention begins one. Only CRFs without the BIO constraint produce it.
    """
    first, kind = -1, -1
    for i, tag in enumerate([*tags, 0]):
        now = (tag - 1) // 2 if tag else -1
        if first >= 0 and not (tag and tag % 2 == 0 and now == kind):
            yield first, i, kind
            first = -1
        if tag and first < 0:
            first, kind = i, now


def _decode(crf: CRF, logits: Sequence[Tensor]) -> list[list[int]]:
    """Viterbi paths of posts of any length. Similar lengths share a batch, so that little is padded."""
    paths: list[list[int]] = [[] for _ in logits]
    order = sorted((i for i, x in enumerate(logits) if len(x)), key=lambda i: len(logits[i]))
    crf_device = crf.transitions.device
    for part in _alike(order, [len(x) for x in logits]):
        padded = torch.nn.utils.rnn.pad_sequence([logits[i] for i in part], batch_first=True).to(crf_device)
        lengths = torch.tensor([len(logits[i]) for i in part], device=crf_device)
        mask = torch.arange(padded.shape[1], device=crf_device) < lengths.unsqueeze(1)
        for i, path in zip(part, crf.decode(padded, mask), strict=True):
            paths[i] = path
    return paths


def _alike(order: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Groups of at most `_DECODED` of `order` (sorted by length), the longest at most twice the shortest plus 16."""
    group: list[int] = []
    for i in order:
        if group and (len(group) == _DECODED or lengths[i] > 2 * lengths[group[0]] + 16):
            yield group
            group = []
        group.append(i)
    if group:
        yield group
