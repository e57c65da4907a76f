"""ALBEF (Li et al., 2021) for visual entailment, in plain PyTorch: a picture and sentences into class logits.

A ViT encodes the picture. The lower half of a BERT encodes the sentence; each layer of the upper half also attends to
the picture's patches. The head classifies the state of the sentence's first token. Parts are named as in the published
checkpoints.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class AlbefSizes:
    """Sizes of a checkpoint's tensors; the defaults are those of the published models."""

    image_size: int = 384
    patch: int = 16
    vision_width: int = 768
    vision_inner: int = 3072
    vision_depth: int = 12
    words: int = 30522
    positions: int = 512
    width: int = 768
    inner: int = 3072
    depth: int = 12
    fusion: int = 6
    """The first layer of the text encoder that attends to the picture."""
    kinds: bool = True
    """Whether there are token type embeddings; LAVIS's port of ALBEF has none."""
    classes: int = 3
    head: int = 64
    """Channels of an attention head, in both encoders; the checkpoints do not store it."""

    @property
    def grid(self) -> int:
        """Number of rows of patches, and of columns."""
        return self.image_size // self.patch


class Albef(nn.Module):
    """The whole net."""

    def __init__(self, sizes: AlbefSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.visual_encoder = VisionEncoder(sizes)
        self.text_encoder = TextEncoder(sizes)
        self.cls_head = entailment_head(sizes.width, sizes.classes)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (n, 3, image_size, image_size) to patch states (n, 1 + patches, width), the class token first."""
        states: Tensor = self.visual_encoder(pixels)
        return states

    def forward(self, patches: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Class logits of sentences about pictures.

        Args:
            patches: (n, 1 + patches, width) of `encode`, or (1, ...) of one picture that all sentences are about.
            ids: (n, tokens), padded on the right.
            mask: (n, tokens), true at the sentences' own tokens.

        Returns:
            (n, classes); for the published order of classes see `namepin.tools.entailment.albef`.
        """
        logits: Tensor = self.cls_head(self.text_encoder(ids, mask, patches)[:, 0])
        return logits


def entailment_head(width: int, classes: int) -> nn.Sequential:
    """The classifier on the first token's state."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))


def _attend(query: Tensor, key: Tensor, value: Tensor, head: int, mask: Tensor | None = None) -> Tensor:
    """Multi-head attention: (n, tokens, width) over (n or 1, others, width); `mask` allows attention."""

    def heads(states: Tensor) -> Tensor:
        split = states.reshape(*states.shape[:2], -1, head).transpose(1, 2)
        return split.expand(len(query), -1, -1, -1)

    mixed = functional.scaled_dot_product_attention(heads(query), heads(key), heads(value), attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2)


class VisionEncoder(nn.Module):
    """A Vision Transformer with norms before its parts and one at the end."""

    def __init__(self, sizes: AlbefSizes) -> None:
        super().__init__()
        width = sizes.vision_width
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, width, sizes.patch, sizes.patch)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + sizes.grid**2, width))
        self.blocks = nn.ModuleList(VisionBlock(sizes) for _ in range(sizes.vision_depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        """See `Albef.encode`."""
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        states = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            states = block(states)
        normed: Tensor = self.norm(states)
        return normed


class VisionBlock(nn.Module):
    """Self-attention and an MLP, each after a norm and with a residual connection."""

    def __init__(self, sizes: AlbefSizes) -> None:
        super().__init__()
        width, self.head = sizes.vision_width, sizes.head
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width)})
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(width, sizes.vision_inner), "fc2": nn.Linear(sizes.vision_inner, width)}
        )

    def forward(self, states: Tensor) -> Tensor:
        """(n, tokens, width) to the same."""
        query, key, value = self.attn["qkv"](self.norm1(states)).chunk(3, dim=-1)
        states = states + self.attn["proj"](_attend(query, key, value, self.head))
        mixed: Tensor = states + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](self.norm2(states))))
        return mixed


class TextEncoder(nn.Module):
    """A BERT whose layers from `fusion` on also attend to the picture."""

    def __init__(self, sizes: AlbefSizes) -> None:
        super().__init__()
        self.embeddings = Embeddings(sizes)
        layers = nn.ModuleList(TextLayer(sizes, fused=index >= sizes.fusion) for index in range(sizes.depth))
        self.encoder = nn.ModuleDict({"layer": layers})

    def forward(self, ids: Tensor, mask: Tensor, patches: Tensor) -> Tensor:
        """States (n, tokens, width); arguments as in `Albef.forward`."""
        states = self.embeddings(ids)
        seen = mask[:, None, None, :].bool()
        for layer in self.encoder["layer"].children():
            states = layer(states, seen, patches)
        read: Tensor = states
        return read


class Embeddings(nn.Module):
    """Embeddings of tokens, of positions, and of the token type, which is always 0."""

    def __init__(self, sizes: AlbefSizes) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.words, sizes.width)
        self.position_embeddings = nn.Embedding(sizes.positions, sizes.width)
        self.token_type_embeddings = nn.Embedding(2, sizes.width) if sizes.kinds else None
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=1e-12)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, tokens) to (n, tokens, width)."""
        embedded: Tensor = self.word_embeddings(ids)
        if self.token_type_embeddings is not None:
            embedded = embedded + self.token_type_embeddings.weight[0]
        normed: Tensor = self.LayerNorm(embedded + self.position_embeddings.weight[: ids.shape[1]])
        return normed


class TextLayer(nn.Module):
    """Attention to the sentence, then to the picture in fused layers, then an MLP."""

    def __init__(self, sizes: AlbefSizes, fused: bool) -> None:
        super().__init__()
        self.attention = TextAttention(sizes, sizes.width)
        self.crossattention = TextAttention(sizes, sizes.vision_width) if fused else None
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(sizes.width, sizes.inner)})
        self.output = Residual(sizes.inner, sizes.width)

    def forward(self, states: Tensor, seen: Tensor, patches: Tensor) -> Tensor:
        """(n, tokens, width) to the same; `seen` is (n, 1, 1, tokens)."""
        states = self.attention(states, states, seen)
        if self.crossattention is not None:
            states = self.crossattention(states, patches, None)
        mixed: Tensor = self.output(functional.gelu(self.intermediate["dense"](states)), states)
        return mixed


class TextAttention(nn.Module):
    """Attention of the sentence's tokens to themselves or to the picture's patches; norm after the residual."""

    def __init__(self, sizes: AlbefSizes, source: int) -> None:
        super().__init__()
        self.head = sizes.head
        parts = {"query": sizes.width, "key": source, "value": source}
        self.self = nn.ModuleDict({name: nn.Linear(channels, sizes.width) for name, channels in parts.items()})
        self.output = Residual(sizes.width, sizes.width)

    def forward(self, states: Tensor, source: Tensor, seen: Tensor | None) -> Tensor:
        """(n, tokens, width); `source` may have one row for all."""
        query, key, value = self.self["query"](states), self.self["key"](source), self.self["value"](source)
        mixed: Tensor = self.output(_attend(query, key, value, self.head, seen), states)
        return mixed


class Residual(nn.Module):
    """A projection with a residual connection, and the norm of the sum."""

    def __init__(self, source: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(source, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, found: Tensor, states: Tensor) -> Tensor:
        """`found` is (n, tokens, source), `states` and the result (n, tokens, width)."""
        normed: Tensor = self.LayerNorm(self.dense(found) + states)
        return normed
