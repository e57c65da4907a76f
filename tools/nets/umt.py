"""UMT, the multimodal NER model whose fusion features find similar posts (Yu et al., ACL 2020, sections 3.2-3.4).

Shapes: B posts, T word pieces, W words, H hidden size, R = 49 regions of a 7 x 7 grid.

BERT encodes the text and a ResNet the picture. Three cross-modal layers then make two representations of every word
piece: an image-aware one, and a gated one of the word's regions. An auxiliary task, finding untyped spans in the text
alone, guides the types through a conversion matrix.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from namepin.tools.nets.crf import CRF

GRID = 7
SPAN_TAGS = 3
"""O, B, I: the auxiliary task has no types."""


@dataclass(frozen=True)
class UmtBatch:
    """Posts as input of the net.

    Attributes:
        piece_ids: `(B, T)` word pieces between [CLS] and [SEP], both included.
        piece_mask: `(B, T)` boolean, true at real pieces.
        pixels: `(B, 3, side, side)` normalised pictures.
    """

    piece_ids: Tensor
    piece_mask: Tensor
    pixels: Tensor


class Layer(nn.Module):
    """A transformer layer with post-norm, as in BERT: `queries` (B, Q, H) attend to `context` (B, C, H).

    If the queries are their own context, it is a self-attention layer, otherwise a cross-modal one.
    """

    def __init__(self, hidden: int, heads: int, inner: int, dropout: float, eps: float = 1e-12) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(hidden, heads, dropout, batch_first=True)
        self.attended = nn.LayerNorm(hidden, eps)
        self.widen, self.narrow = nn.Linear(hidden, inner), nn.Linear(inner, hidden)
        self.transformed = nn.LayerNorm(hidden, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, Q, H); `mask` (B, C) is false where attention is blocked."""
        ignored = None if mask is None else ~mask
        found, _ = self.attention(queries, context, context, key_padding_mask=ignored, need_weights=False)
        states = self.attended(queries + self.dropout(found))
        changed = self.narrow(F.gelu(self.widen(states)))
        return cast(Tensor, self.transformed(states + self.dropout(changed)))


class Umt(nn.Module):
    """The fusion, the two taggers, and their loss.

    Args:
        text: transformers' BERT, without pooler.
        vision: transformers' ResNet; its last stage is pooled to the 7 x 7 grid.
        num_types: entity types; tags are those of `namepin.tools.nets.crf.bio_tags`.
        dropout: dropout rate on BERT's states and inside the layers.
    """

    conversion: Tensor

    def __init__(self, text: Any, vision: Any, num_types: int, dropout: float = 0.1) -> None:
        super().__init__()
        config = text.config
        hidden, num_tags = config.hidden_size, 2 * num_types + 1
        self.text, self.vision = text, vision
        self.dropout = nn.Dropout(dropout)

        def layer() -> Layer:
            return Layer(hidden, config.num_attention_heads, config.intermediate_size, dropout, config.layer_norm_eps)

        self.words, self.spans = layer(), layer()
        channels = vision.config.hidden_sizes[-1]
        self.regions, self.asking_regions = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.regions_read_words, self.words_read_regions, self.words_see = layer(), layer(), layer()
        self.gate = nn.Linear(2 * hidden, hidden)
        self.tags, self.span_tags = nn.Linear(2 * hidden, num_tags), nn.Linear(hidden, SPAN_TAGS)
        self.crf, self.span_crf = CRF(num_tags), CRF(SPAN_TAGS)
        self.register_buffer("conversion", conversion_matrix(num_types), persistent=False)

    def forward(self, batch: UmtBatch) -> tuple[Tensor, Tensor]:
        """Multimodal hidden states `(B, T, 2H)` and the text-only states `(B, T, H)` of the auxiliary task."""
        mask = batch.piece_mask
        states = self.dropout(
            self.text(input_ids=batch.piece_ids, attention_mask=mask.to(batch.piece_ids.dtype)).last_hidden_state
        )
        return self.fuse(self.words(states, states, mask), mask, self.see(batch.pixels)), self.spans(
            states, states, mask
        )

    def see(self, pixels: Tensor) -> Tensor:
        """The picture's regions, row by row: `(B, R, channels)`."""
        grid = self.vision(pixel_values=pixels).last_hidden_state
        return F.adaptive_avg_pool2d(grid, GRID).flatten(2).transpose(1, 2)

    def fuse(self, words: Tensor, mask: Tensor, regions: Tensor) -> Tensor:
        """The multimodal interaction (section 3.3): `(B, T, 2H)`.

        Image-aware word representation: the regions attend to the words, then the words attend to the result.
        Word-aware visual representation: the words attend to the regions, and a gate from both selects what fits the
        word.
        """
        answered = self.regions_read_words(self.asking_regions(regions), words, mask)
        image_aware = self.words_read_regions(words, answered)
        seen = self.words_see(words, self.regions(regions))
        gate = torch.sigmoid(self.gate(torch.cat((image_aware, seen), 2)))
        return torch.cat((image_aware, gate * seen), 2)

    def emissions(self, batch: UmtBatch, word_pieces: Tensor) -> tuple[Tensor, Tensor]:
        """Emissions of tags `(B, W, 2 * types + 1)` and of span tags `(B, W, 3)`, at the words' first pieces (B, W).

        The former are the mean of the multimodal emissions and of the span tags' emissions times the conversion matrix.
        """
        fused, spans = self(batch)
        span_tags = self.span_tags(_at(spans, word_pieces))
        return (self.tags(_at(fused, word_pieces)) + span_tags @ self.conversion) / 2, span_tags

    def loss(self, batch: UmtBatch, word_pieces: Tensor, word_mask: Tensor, tags: Tensor, spans: float = 0.5) -> Tensor:
        """Mean negative log-likelihood of the gold tags (B, W), plus `spans` times that of their spans."""
        emissions, span_emissions = self.emissions(batch, word_pieces)
        # B- tags are odd and I- tags even; without their types they are 1 and 2.
        positions = torch.where(tags > 0, 2 - tags % 2, 0)
        untyped = self.span_crf.nll(span_emissions, positions, word_mask)
        return (self.crf.nll(emissions, tags, word_mask) + spans * untyped).mean()

    def decode(self, batch: UmtBatch, word_pieces: Tensor, word_mask: Tensor) -> list[list[int]]:
        """The best tags of each post."""
        return self.crf.decode(self.emissions(batch, word_pieces)[0], word_mask)


def conversion_matrix(num_types: int) -> Tensor:
    """`(3, 2 * types + 1)`: the share of each tag among the typed tags of a span tag; all types are equal."""
    matrix = torch.zeros(SPAN_TAGS, 2 * num_types + 1)
    matrix[0, 0] = 1
    matrix[1, 1::2] = 1 / num_types
    matrix[2, 2::2] = 1 / num_types
    return matrix


def _at(states: Tensor, pieces: Tensor) -> Tensor:
    return states.gather(1, pieces.unsqueeze(2).expand(-1, -1, states.shape[2]))
