"""SEEM's text encoder: CLIP's causal transformer, and a projection into the space of the masks' classes."""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from namepin.tools.nets.seem.layers import Attention


class QuickGelu(nn.Module):
    """GELU approximated by a sigmoid, as in CLIP's training."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to each element."""
        return x * torch.sigmoid(1.702 * x)


class TextBlock(nn.Module):
    """One layer, norms first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = Attention(width)
        self.ln_1 = nn.LayerNorm(width, eps=1e-12)
        layers = (("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGelu()), ("c_proj", nn.Linear(4 * width, width)))
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: Tensor, later: Tensor) -> Tensor:
        """(rows, tokens, width) -> the same; `later` is true where a token must not attend."""
        normed = self.ln_1(x)
        x = x + self.attn.attend(normed, normed, normed, later)
        output: Tensor = x + self.mlp(self.ln_2(x))
        return output


class TextTransformer(nn.Module):
    """Token ids to states."""

    def __init__(self, words: int, positions: int, width: int, depth: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(words, width)
        self.positional_embedding = nn.Parameter(torch.zeros(positions, width))
        self.resblocks = nn.ModuleList(TextBlock(width) for _ in range(depth))
        self.ln_final = nn.LayerNorm(width, eps=1e-12)

    def forward(self, ids: Tensor) -> Tensor:
        """(rows, tokens) -> (rows, tokens, width).

        A token attends only to earlier ones, so padding up to CLIP's 77 tokens would change nothing and is left out.
        """
        count = ids.shape[1]
        later = torch.ones(count, count, dtype=torch.bool, device=ids.device).triu(1)
        x = self.token_embedding(ids) + self.positional_embedding[:count]
        for block in self.resblocks:
            x = block(x, later)
        output: Tensor = self.ln_final(x)
        return output


class LanguageEncoder(nn.Module):
    """The transformer, its projection, and the temperature of the similarity between classes and masks."""

    def __init__(self, words: int, positions: int, width: int, depth: int, projection: int) -> None:
        super().__init__()
        self.lang_encoder = TextTransformer(words, positions, width, depth)
        self.lang_proj = nn.Parameter(torch.zeros(width, projection))
        self.logit_scale = nn.Parameter(torch.ones([]))

    def forward(self, ids: Tensor) -> Tensor:
        """(rows, tokens), all of one length, -> the tokens' states, (rows, tokens, projection); the last is the text's.

        CLIP's end token is the last one here, and its state represents the whole text.
        """
        output: Tensor = self.lang_encoder(ids) @ self.lang_proj
        return output

    def similarity(self, classes: Tensor, texts: Tensor) -> Tensor:
        """Class logits: cosine of (rows, masks, c) and (texts, c), times the temperature; (rows, masks, texts)."""
        classes = classes / (classes.norm(dim=-1, keepdim=True) + 1e-7)
        texts = texts / (texts.norm(dim=-1, keepdim=True) + 1e-7)
        return self.logit_scale.exp() * classes @ texts.T
