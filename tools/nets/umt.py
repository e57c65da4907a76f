"""UMT (Yu et al., ACL 2020), the "vanilla MNER model" by whose fusion features PLIM compares posts (section IV-B1b).

BERT reads the words and ResNet's last feature map gives 7 x 7 picture tokens. Three coupled cross-modal layers fuse
them: words look at the picture (image-aware words), the picture looks at the words, and the words look at that
(word-aware picture, in the words' places); a gate decides word by word how much of the picture is let in. The auxiliary
path, which finds spans only, helps in training.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tools.nets.crf import CRF

GRID = 49
"""Picture tokens: ResNet's last map of a 224 x 224 picture, 7 x 7."""


@dataclass(frozen=True)
class UmtSizes:
    """Widths of what is fused, and the label sets of the training heads."""

    width: int
    channels: int
    heads: int
    inner: int
    labels: int
    spans: int
    dropout: float = 0.1


class Attend(nn.Module):
    """One post-norm transformer layer whose queries and keys may come from different sides."""

    def __init__(self, sizes: UmtSizes) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(sizes.width, sizes.heads, sizes.dropout, batch_first=True)
        self.norm = nn.LayerNorm(sizes.width, eps=1e-12)
        self.inner, self.outer = nn.Linear(sizes.width, sizes.inner), nn.Linear(sizes.inner, sizes.width)
        self.outer_norm = nn.LayerNorm(sizes.width, eps=1e-12)
        self.dropout = nn.Dropout(sizes.dropout)

    def forward(self, queries: Tensor, keys: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            queries: (batch, m, width).
            keys: (batch, n, width), also the values.
            hidden: (batch, n), True for keys that are padding.

        Returns:
            (batch, m, width).
        """
        seen, _ = self.attention(queries, keys, keys, key_padding_mask=hidden, need_weights=False)
        states = self.norm(queries + self.dropout(seen))
        inner = self.outer(nn.functional.gelu(self.inner(states)))
        fused: Tensor = self.outer_norm(states + self.dropout(inner))
        return fused


class Umt(nn.Module):
    """The fusion network and its two training heads.

    Args:
        sizes: see `UmtSizes`.
        bert: a transformers encoder of words.
        resnet: a transformers ResNet without head.
    """

    def __init__(self, sizes: UmtSizes, bert: Any, resnet: Any) -> None:
        super().__init__()
        self.sizes, self.bert, self.resnet = sizes, bert, resnet
        self.words, self.spans = Attend(sizes), Attend(sizes)
        self.picture_for_words = nn.Linear(sizes.channels, sizes.width)
        self.picture_for_itself = nn.Linear(sizes.channels, sizes.width)
        self.words_see_picture, self.picture_sees_words, self.words_see_both = (
            Attend(sizes),
            Attend(sizes),
            Attend(sizes),
        )
        self.gate = nn.Linear(2 * sizes.width, sizes.width)
        self.classifier = nn.Linear(2 * sizes.width, sizes.labels)
        self.span_classifier = nn.Linear(sizes.width, sizes.spans)
        self.crf, self.span_crf = CRF(sizes.labels), CRF(sizes.spans)

    def grid(self, pixels: Tensor) -> Tensor:
        """Pictures (batch, 3, 224, 224), normalised as for ImageNet, as tokens (batch, 49, channels)."""
        found: Tensor = self.resnet(pixels).last_hidden_state
        return found.flatten(2).transpose(1, 2)

    def fuse(self, ids: Tensor, mask: Tensor, grid: Tensor | None) -> tuple[Tensor, Tensor]:
        """Fused word states, and the states of the auxiliary path.

        Args:
            ids: (batch, n) word pieces.
            mask: (batch, n), 1 for a piece and 0 for padding.
            grid: (batch, 49, channels) from `grid`; None for posts without a picture, whose gate stays shut.

        Returns:
            (batch, n, 2 * width) and (batch, n, width).
        """
        hidden = mask == 0
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        words = self.words(states, states, hidden)
        spans = self.spans(states, states, hidden)
        if grid is None:
            return torch.cat([words, torch.zeros_like(words)], dim=-1), spans
        image_aware = self.words_see_picture(words, self.picture_for_words(grid))
        picture = self.picture_sees_words(self.picture_for_itself(grid), words, hidden)
        word_aware = self.words_see_both(words, picture)
        let_in = torch.sigmoid(self.gate(torch.cat([word_aware, image_aware], dim=-1)))
        return torch.cat([word_aware, let_in * image_aware], dim=-1), spans

    def loss(
        self, ids: Tensor, mask: Tensor, grid: Tensor | None, labels: Tensor, spans: Tensor, conversion: Tensor
    ) -> Tensor:
        """The joint negative log-likelihood, a mean over posts; the auxiliary path counts one half, as in the paper.

        Args:
            ids: as `fuse`; so are `mask` and `grid`.
            mask: 1 for a piece, 0 for padding.
            grid: the pictures' tokens, or None.
            labels: (batch, n) BIO labels with types.
            spans: (batch, n) BIO labels without.
            conversion: (spans, labels), how likely each label is for a span label: the paper's conversion matrix.
        """
        fused, auxiliary = self.fuse(ids, mask, grid)
        span_logits = self.span_classifier(auxiliary)
        logits = 0.5 * self.classifier(fused) + 0.5 * span_logits @ conversion
        kept = mask.bool()
        auxiliary_nll = self.span_crf.nll(span_logits, spans, kept).mean()
        return self.crf.nll(logits, labels, kept).mean() + 0.5 * auxiliary_nll
