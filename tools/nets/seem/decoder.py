"""SEEM's mask decoder: 101 queries attend to the picture's features and to the prompts' tokens.

Every layer has three steps. First, the queries attend to one level of the features, but only where their own mask of
the previous step is positive. Then queries and prompts attend to each other: queries to everything, words to queries
and words, points to points. Then each passes an MLP. Words change from layer to layer; points are sampled again from
each level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from namepin.tools.nets.seem.layers import Attention, Mlp, sample, sine_positions, to_sequence
from namepin.tools.nets.seem.text import LanguageEncoder

LEVELS = 3


@dataclass(frozen=True)
class Prediction:
    """Output of the decoder for R prompts and Q queries, each with a mask.

    Attributes:
        masks: (R, Q, h, w) logits, at 1/4 of the picture; positive is inside.
        mask_embeds: (R, Q, width); with a point, the query nearest to `points` is its mask.
        class_embeds: (R, Q, projection); see `LanguageEncoder.similarity`.
        points: (R, width), the mean mask feature under the points; None without points.
    """

    masks: Tensor
    mask_embeds: Tensor
    class_embeds: Tensor
    points: Tensor | None

    def chosen_by_point(self) -> Tensor:
        """The query of each prompt whose mask embedding fits the points' features best: (R,)."""
        assert self.points is not None
        return torch.einsum("rqc,rc->rq", self.mask_embeds, self.points).argmax(dim=1)


class CrossAttention(nn.Module):
    """Queries to features, norm last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, at: Tensor, features: Tensor, positions: Tensor, blocked: Tensor) -> Tensor:
        """(rows, queries, width) -> the same."""
        read = self.multihead_attn.attend(x + at, features + positions, features, blocked)
        output: Tensor = self.norm(x + read)
        return output


class SelfAttention(nn.Module):
    """Queries and tokens among each other, norm last."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.self_attn = Attention(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, at: Tensor, blocked: Tensor) -> Tensor:
        """(rows, queries and tokens, width) -> the same."""
        placed = x + at
        output: Tensor = self.norm(x + self.self_attn.attend(placed, placed, x, blocked))
        return output


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between them, norm last."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(width, inner)
        self.linear2 = nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        output: Tensor = self.norm(x + self.linear2(functional.relu(self.linear1(x))))
        return output


class MaskDecoder(nn.Module):
    """The decoder, its queries, and the text encoder that belongs to its classes."""

    def __init__(
        self, width: int, inner: int, depth: int, queries: int, masks: int, projection: int, text: LanguageEncoder
    ) -> None:
        super().__init__()
        self.lang_encoder = text
        self.transformer_cross_attention_layers = nn.ModuleList(CrossAttention(width) for _ in range(depth))
        self.transformer_self_attention_layers = nn.ModuleList(SelfAttention(width) for _ in range(depth))
        self.transformer_ffn_layers = nn.ModuleList(FeedForward(width, inner) for _ in range(depth))
        self.decoder_norm = nn.LayerNorm(width)
        self.query_feat = nn.Embedding(queries, width)
        self.query_embed = nn.Embedding(queries, width)
        # Row 0 marks a point inside. Row 1, a point outside, is never used here.
        self.pn_indicator = nn.Embedding(2, width)
        self.level_embed = nn.Embedding(LEVELS, width)
        self.mask_embed = Mlp(width, width, width, masks)
        self.class_embed = nn.Parameter(torch.zeros(width, projection))
        self.mask_sptial_embed = nn.ParameterList(torch.zeros(width, width) for _ in range(LEVELS))

    def forward(
        self, levels: Sequence[Tensor], mask_features: Tensor, points: Tensor | None, words: Tensor | None
    ) -> Prediction:
        """Decode R prompts for one picture.

        Args:
            levels: three maps, smallest first, (1, width, h, w) each.
            mask_features: (1, masks, h, w).
            points: (R, points, 2) as (x, y), 0..1 of the padded picture; as many for each prompt.
            words: (R, tokens, width), as `LanguageEncoder` gives them; as many for each prompt.
        """
        rows = len(points) if points is not None else len(words) if words is not None else 1
        shapes = [level.shape[-2:] for level in levels]
        # All prompts share one picture: `expand` does not copy it.
        features = [
            (to_sequence(level) + embed).expand(rows, -1, -1)
            for level, embed in zip(levels, self.level_embed.weight, strict=True)
        ]
        positions = [sine_positions(shape[0], shape[1], features[0].shape[2], features[0]) for shape in shapes]
        strokes = self._point_tokens(features, shapes, points)

        queries = self.query_feat.weight.expand(rows, -1, -1)
        at = self.query_embed.weight.expand(rows, -1, -1)
        words_now = words if words is not None else queries[:, :0]
        words_at = words_now
        masks, mask_embeds, class_embeds = self._heads(queries, mask_features)
        for i, (cross, among, apart) in enumerate(
            zip(
                self.transformer_cross_attention_layers,
                self.transformer_self_attention_layers,
                self.transformer_ffn_layers,
                strict=True,
            )
        ):
            level = i % LEVELS
            blocked = _outside(masks, shapes[level])
            queries = cross(queries, at, features[level], positions[level], blocked)
            x = torch.cat((queries, words_now, strokes[level]), dim=1)
            x_at = torch.cat((at, words_at, strokes[level]), dim=1)
            counts = (queries.shape[1], words_now.shape[1], strokes[level].shape[1])
            queries, words_now, _ = apart(among(x, x_at, _who_sees_whom(counts, x.device))).split(counts, dim=1)
            masks, mask_embeds, class_embeds = self._heads(queries, mask_features)
        under = None if points is None else sample(mask_features.expand(rows, -1, -1, -1), points).mean(dim=1)
        return Prediction(masks, mask_embeds, class_embeds, under)

    def _point_tokens(
        self, features: Sequence[Tensor], shapes: Sequence[torch.Size], points: Tensor | None
    ) -> list[Tensor]:
        """Each level's features under the points, projected and marked as inside: (R, points, width)."""
        if points is None:
            return [level[:, :0] for level in features]
        tokens = []
        for level, shape, projection in zip(features, shapes, self.mask_sptial_embed, strict=True):
            projected = (level @ projection).transpose(1, 2).unflatten(2, shape)
            tokens.append(sample(projected, points) + self.pn_indicator.weight[0])
        return tokens

    def _heads(self, queries: Tensor, mask_features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mask logits, mask embeddings and class embeddings of the queries as they stand."""
        normed = self.decoder_norm(queries)
        mask_embeds = self.mask_embed(normed)
        masks = torch.einsum("rqc,chw->rqhw", mask_embeds, mask_features[0])
        return masks, mask_embeds, normed @ self.class_embed


def _outside(masks: Tensor, shape: torch.Size) -> Tensor:
    """Where a query must not attend: outside its own mask. A query with an empty mask may attend everywhere.

    Returns:
        (rows, queries, places), bool.
    """
    shrunk = functional.interpolate(masks, size=shape, mode="bilinear", align_corners=False)
    outside = (shrunk.sigmoid() < 0.5).flatten(2)
    return outside & ~outside.all(dim=2, keepdim=True)


def _who_sees_whom(counts: tuple[int, int, int], device: torch.device) -> Tensor:
    """True where attention is blocked among queries, words and points, in this order: (all, all)."""
    queries, words, _ = counts
    blocked = torch.zeros(sum(counts), sum(counts), dtype=torch.bool, device=device)
    blocked[queries : queries + words, queries + words :] = True
    blocked[queries + words :, : queries + words] = True
    return blocked
