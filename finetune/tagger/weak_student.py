"""A linear classifier of a mention's fine type. It shows within seconds how much the weak labels teach.

Features are hashed: the name, its words, character n-grams and shape, the words around it, the post's words. The
4-type is given, so the softmax covers its fine types alone. The weak distributions are the soft targets.
"""

import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from namepin.finetune.tagger.weak_labels import MentionEvidence
from namepin.tools.labels import COARSE4, FINE51, FINE_TO_COARSE4
from namepin.tools.tagger.lexicon import Votes, name_key, split_joined

BUCKETS = 1 << 18
_COARSE = torch.tensor([COARSE4.index(FINE_TO_COARSE4[fine]) for fine in FINE51])


def features(mention: MentionEvidence) -> Iterator[str]:
    """Names of the mention's features; all are paired with its 4-type when hashed."""
    start, end = mention.span
    yield "bias"
    name = split_joined(mention.name).lower()
    yield f"key={name_key(mention.name)}"
    words = re.findall(r"\w+", name)
    yield from (f"word={w}" for w in words)
    if words:
        yield f"first={words[0]}"
        yield f"last={words[-1]}"
        yield f"words={min(len(words), 5)}"
    padded = f"^{'_'.join(words)}$"
    for n in (3, 4):
        yield from (f"gram={padded[i : i + n]}" for i in range(len(padded) - n + 1))
    before = [w.lower() for w in mention.words[max(0, start - 3) : start]]
    after = [w.lower() for w in mention.words[end : end + 3]]
    for side, near in (("-", before[::-1]), ("+", after)):
        yield from (f"near{side}{i}={w}" for i, w in enumerate(near))
        yield from (f"near{side}={w}" for w in near)
    others = split_joined(" ".join((*mention.words[:start], *mention.words[end:]))).lower()
    yield from (f"post={w}" for w in set(re.findall(r"[a-z]\w+", others)))


def hash_features(mentions: Sequence[MentionEvidence]) -> list[Tensor]:
    """One vector of bucket numbers per mention."""
    rows = []
    for mention in mentions:
        names = {f"{mention.coarse}|{feature}" for feature in features(mention)}
        rows.append(torch.tensor(sorted(zlib.crc32(n.encode()) % BUCKETS for n in names)))
    return rows


class Student:
    """Multinomial logistic regression on hashed features.

    Args:
        epochs: passes over the training mentions.
        rate: learning rate (Adagrad).
        drop: share of the features hidden at each step, so that the classifier also learns the context.
        seed: seed of the order of the examples and the dropped features.
    """

    def __init__(self, epochs: int = 8, rate: float = 0.1, drop: float = 0.4, seed: int = 0) -> None:
        self.epochs, self.drop = epochs, drop
        self.random = torch.Generator().manual_seed(seed)
        self.weights = nn.EmbeddingBag(BUCKETS, len(FINE51), mode="sum", sparse=True)
        nn.init.zeros_(self.weights.weight)
        self.optimiser = torch.optim.Adagrad(self.weights.parameters(), lr=rate)

    def fit(self, mentions: Sequence[MentionEvidence], targets: Sequence[Votes]) -> "Student":
        """Minimise the cross-entropy to `targets`; mentions with an empty target are skipped."""
        known = [i for i, target in enumerate(targets) if target]
        rows = hash_features([mentions[i] for i in known])
        goal = torch.zeros(len(known), len(FINE51))
        for row, i in zip(goal, known, strict=True):
            for fine, share in targets[i].items():
                row[FINE51.index(fine)] = share
        coarse = [mentions[i].coarse for i in known]
        for _ in range(self.epochs):
            order = torch.randperm(len(known), generator=self.random).tolist()
            for at in range(0, len(order), 256):
                batch = order[at : at + 256]
                remaining = [self._drop(rows[i]) for i in batch]
                log_p = self._log_softmax(remaining, [coarse[i] for i in batch])
                loss = -(goal[batch] * log_p.clamp(min=-30)).sum(1).mean()
                self.optimiser.zero_grad()
                loss.backward()
                # Set explicitly, since torch otherwise warns about unchecked invariants of sparse gradients.
                with torch.sparse.check_sparse_tensor_invariants(False):
                    self.optimiser.step()
        return self

    def predict(self, mentions: Sequence[MentionEvidence]) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
        """`(mentions, 51)` probabilities; types of another 4-type are 0."""
        with torch.no_grad():
            log_p = self._log_softmax(hash_features(mentions), [m.coarse for m in mentions])
        return np.asarray(log_p.exp().numpy())

    def _drop(self, row: Tensor) -> Tensor:
        remaining = row[torch.rand(len(row), generator=self.random) >= self.drop]
        return remaining if len(remaining) else row

    def _log_softmax(self, rows: Sequence[Tensor], coarse: Sequence[str]) -> Tensor:
        offsets = torch.tensor([0, *np.cumsum([len(row) for row in rows])[:-1].tolist()])
        logits: Tensor = self.weights(torch.cat(list(rows)), offsets)
        kinds = torch.tensor([COARSE4.index(c) for c in coarse])
        return logits.masked_fill(kinds[:, None] != _COARSE, float("-inf")).log_softmax(1)
