"""GEM's multi-granularity tagger (section 3.2): an encoder, a coarse and a fine path, a transition matrix.

Shapes: B rows, P word pieces, W words, C and F tags of the coarse and the fine path (`2 * types + 1`). A row is a
window of a post, `text <SEP> knowledge`. Words take their vectors from pieces of the text, and with `crf_scope=all` of
the rest as well.
"""

from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn

from namepin.tools.nets.crf import CRF, bio_legal_moves


@dataclass(frozen=True)
class TaggerBatch:
    """Input of the net.

    Attributes:
        piece_ids: `(B, P)` int64, the tokenizer's ids.
        piece_mask: `(B, P)` bool, true at real pieces.
        piece_shapes: `(B, P, S)` int64, features of the piece's word: its casing, its role in the post, and its match
            in the knowledge.
        word_pieces: `(B, W)` int64, the first piece of each word; 0 at padding.
        word_mask: `(B, W)` bool.
        word_chars: `(B, W, K)` int64, character ids, 0 is padding.
    """

    piece_ids: Tensor
    piece_mask: Tensor
    piece_shapes: Tensor
    word_pieces: Tensor
    word_mask: Tensor
    word_chars: Tensor

    def to(self, device: str | torch.device) -> "TaggerBatch":
        """The same batch on a device."""
        return TaggerBatch(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True)
class Emissions:
    """Logits of both paths at each word: `(B, W, C)`, and `(B, W, F)` after equation 9, None with a single path."""

    coarse: Tensor
    fine: Tensor | None


class CharNet(nn.Module):
    """A word's letters as a vector: embedding, width-3 convolution, maximum over the word.

    Input `(B, W, K)` character ids, output `(B, W, out)`.
    """

    def __init__(self, num_chars: int, width: int, out: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_chars, width, padding_idx=0)
        self.convolution = nn.Conv1d(width, out, kernel_size=3, padding=1)

    def forward(self, chars: Tensor) -> Tensor:
        """See the class. Outside training, each different word is read once."""
        rows, words, letters = chars.shape
        flat = chars.reshape(rows * words, letters)
        if self.training:
            return self._read(flat).reshape(rows, words, -1)
        different, which = flat.unique(dim=0, return_inverse=True)
        return self._read(different)[which].reshape(rows, words, -1)

    def _read(self, words: Tensor) -> Tensor:
        """`(N, K)` -> `(N, out)`."""
        maxima: Tensor = self.convolution(self.embedding(words).transpose(1, 2)).relu().amax(2)
        return maxima


class TaggingPath(nn.Module):
    """One granularity: dropout and a linear layer to tag logits, and the CRF that refines them."""

    def __init__(self, width: int, num_types: int, dropout: float, bio_constraint: bool) -> None:
        super().__init__()
        num_tags = 2 * num_types + 1
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(width, num_tags)
        self.crf = CRF(num_tags, bio_legal_moves(num_types) if bio_constraint else None)

    def forward(self, words: Tensor) -> Tensor:
        """Logits `(B, W, tags)` of word vectors `(B, W, width)`."""
        logits: Tensor = self.linear(self.dropout(words))
        return logits


class DualTaggerNet(nn.Module):
    """Encoder and two paths with their own parameters.

    The casing that an uncased encoder loses is added twice: as a learned vector added to the piece embeddings, so that
    every layer sees it, and as the `CharNet`'s vector beside the encoder's output.

    Args:
        encoder: any transformers encoder that accepts `inputs_embeds`.
        coarse_types: number of coarse types.
        fine_types: number of fine types, 0 for a single path (GMNER's 4 types, section 4.1 of GEM).
        beta: weight of the coarse path in equation 9.
        dropout: dropout rate of both paths.
        bio_constraint: rule out `I-x` after anything but `B-x` and `I-x`; the paper does not.
        shapes: sizes of the vocabularies of `piece_shapes`, for those of its S features that are used.
        chars: size of the character vocabulary, or 0 to leave the `CharNet` out.
        char_width: width of the `CharNet`'s output.
    """

    def __init__(
        self,
        encoder: nn.Module,
        coarse_types: int,
        fine_types: int,
        *,
        beta: float,
        dropout: float,
        bio_constraint: bool,
        shapes: tuple[int, ...],
        chars: int,
        char_width: int = 64,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        config: Any = encoder.config
        hidden = int(config.hidden_size)
        self.beta = beta
        # Zero at first, so that the encoder starts exactly as it was pre-trained.
        self.shapes = nn.ModuleList(nn.Embedding(size, hidden, _weight=torch.zeros(size, hidden)) for size in shapes)
        self.chars = CharNet(chars, 32, char_width) if chars else None
        width = hidden + (char_width if chars else 0)
        self.coarse = TaggingPath(width, coarse_types, dropout, bio_constraint)
        self.fine = TaggingPath(width, fine_types, dropout, bio_constraint) if fine_types else None
        if self.fine is not None:
            self.transition = nn.Parameter(torch.zeros(2 * coarse_types + 1, 2 * fine_types + 1))

    def encode(self, batch: TaggerBatch) -> Tensor:
        """Word vectors `(B, W, width)`: the encoder's output at each word's first piece, and the word's letters."""
        encoder: Any = self.encoder
        embedded = encoder.get_input_embeddings()(batch.piece_ids)
        for i, table in enumerate(self.shapes):
            embedded = embedded + table(batch.piece_shapes[:, :, i])
        embedded = embedded.to(next(encoder.parameters()).dtype)  # which may be lower than the shapes'
        hidden: Tensor = encoder(inputs_embeds=embedded, attention_mask=batch.piece_mask.long()).last_hidden_state
        index = batch.word_pieces.unsqueeze(2).expand(-1, -1, hidden.shape[2])
        words = hidden.gather(1, index).float()
        return words if self.chars is None else torch.cat([words, self.chars(batch.word_chars)], 2)

    def paths(self, words: Tensor) -> Emissions:
        """Logits of both paths from word vectors; the fine ones after equation 9, `beta * M yc + (1 - beta) * yf`."""
        coarse = self.coarse(words)
        if self.fine is None:
            return Emissions(coarse, None)
        return Emissions(coarse, self.beta * (coarse @ self.transition) + (1 - self.beta) * self.fine(words))

    def forward(self, batch: TaggerBatch) -> Emissions:
        """`encode`, then `paths`."""
        return self.paths(self.encode(batch))


def transition_matrix(counts: Tensor, axis: Literal["column", "row"] = "column") -> Tensor:
    """M of equation 9 from co-occurrence counts `(C, F)` of coarse and fine tags.

    The paper says "normalised" without the axis. By column, a fine tag's shares of the coarse tags sum to one: types
    that form a tree give zeros and ones, and a rare fine tag is raised by its parent as much as a frequent one. By row,
    a coarse tag's shares of the fine tags do, so that the counts decide. What never occurs stays zero.
    """
    counts = counts.float()
    return counts / counts.sum(0 if axis == "column" else 1, keepdim=True).clamp_min(1.0)


def pooled_scores(means: Tensor, merge: str = "logsumexp") -> Tensor:
    """Equation 10's distribution for mentions: `(..., types)` from their words' mean logits `(..., 2 * types + 1)`.

    B- and I- of a type are merged (`logsumexp`, `sum` or `mean`; the paper does not say which), then a softmax over the
    types. `O` takes no part.
    """
    pairs: Tensor = means[..., 1:].unflatten(-1, (-1, 2))
    if merge == "logsumexp":
        return pairs.logsumexp(-1).softmax(-1)
    return (pairs.sum(-1) if merge == "sum" else pairs.mean(-1)).softmax(-1)
