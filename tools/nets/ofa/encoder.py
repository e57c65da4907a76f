"""OFA's encoder: patches and words in one sequence, patches first."""

import torch
from torch import Tensor, nn

from namepin.tools.nets.ofa.attention import (
    Attention,
    Perceptron,
    looked_up,
    norm_after,
    patch_buckets,
    position_bias,
    word_buckets,
)
from namepin.tools.nets.ofa.resnet import CHANNELS, ResNet
from namepin.tools.nets.ofa.sizes import Memory, OfaSizes, Patches


class EncoderLayer(Perceptron):
    """Self-attention and an MLP, each after a norm and with a residual connection."""

    def __init__(self, sizes: OfaSizes) -> None:
        super().__init__(sizes)
        self.self_attn = Attention(sizes)
        self.self_attn_layer_norm = nn.LayerNorm(sizes.width)
        self.attn_ln = norm_after(sizes)

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        """(n, tokens, width) to the same; see `Attention.forward` for `bias`."""
        normed = self.self_attn_layer_norm(states)
        attended = self.self_attn(normed, *self.self_attn.keys_values(normed), bias)
        return self.think(states + self.attn_ln(attended))


class Encoder(nn.Module):
    """The layers, the embeddings of pictures and words, and their position biases."""

    def __init__(self, sizes: OfaSizes) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.embed_tokens = nn.Embedding(sizes.vocabulary, width)
        self.layernorm_embedding = nn.LayerNorm(width)
        self.type_embedding = nn.Embedding(2, width)
        self.embed_images = ResNet(sizes.blocks, sizes.batch_norm_eps)
        self.image_proj = nn.Linear(CHANNELS, width)
        self.patch_layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = nn.Embedding(sizes.positions + 2, width)
        self.embed_image_positions = nn.Embedding(sizes.image_bucket**2 + 1, width)
        self.pos_ln = nn.LayerNorm(width)
        self.image_pos_ln = nn.LayerNorm(width)
        self.pos_q_linear = nn.Linear(width, width)
        self.pos_k_linear = nn.Linear(width, width)
        self.layers = nn.ModuleList(EncoderLayer(sizes) for _ in range(sizes.encoder_layers))
        self.layer_norm = nn.LayerNorm(width)
        words, steps = 2 * sizes.token_bucket - 1, (2 * sizes.image_bucket - 1) ** 2 + 3
        tables = sizes.encoder_layers
        self.token_rel_pos_table_list = nn.ModuleList(nn.Embedding(words, sizes.heads) for _ in range(tables))
        self.image_rel_pos_table_list = nn.ModuleList(nn.Embedding(steps, sizes.heads) for _ in range(tables))

    def look(self, pixels: Tensor) -> Patches:
        """Pictures (n, 3, height, width) as patches of the sequence: everything that depends only on the picture."""
        features = self.embed_images(pixels)
        states = self.image_proj(features.flatten(2).transpose(1, 2)) + self.type_embedding.weight[1]
        return Patches(self.patch_layernorm_embedding(states), *features.shape[-2:])

    def forward(self, patches: Patches, ids: Tensor, mask: Tensor) -> Memory:
        """See `Ofa.encode`."""
        words = self.layernorm_embedding(self.embed_tokens(ids) + self.type_embedding.weight[0])
        seen = patches.states.expand(len(ids), -1, -1)
        states = torch.cat([seen, words], dim=1)
        positions = self._positions(patches, ids.shape[1])
        everywhere = torch.cat([mask.new_ones(seen.shape[:2]), mask], dim=1)
        padded = not bool(mask.all())
        hidden = states.new_zeros(everywhere.shape).masked_fill(~everywhere, -torch.inf)[:, None, None]
        absolute = position_bias(
            self.pos_q_linear(positions), self.pos_k_linear(positions), self.sizes.heads, self.sizes.scale
        )
        across = patch_buckets(patches.rows, patches.columns, self.sizes.image_bucket, ids.device)
        along = word_buckets(0, ids.shape[1], self.sizes.token_bucket, ids.device)
        tables = zip(self.image_rel_pos_table_list, self.token_rel_pos_table_list, strict=True)
        for layer, (steps, distances) in zip(self.layers, tables, strict=True):
            bias = absolute.clone()
            bias[:, :, : seen.shape[1], : seen.shape[1]] += looked_up(steps, across)
            bias[:, :, seen.shape[1] :, seen.shape[1] :] += looked_up(distances, along)
            states = layer(states, bias + hidden if padded else bias)
        return Memory(self.layer_norm(states), everywhere if padded else None, positions)

    def _positions(self, patches: Patches, words: int) -> Tensor:
        """Normed position embeddings of patches and words: (1, patches + words, width)."""
        device = patches.states.device
        rows = torch.arange(patches.rows, device=device)[:, None] * self.sizes.image_bucket
        places = (rows + torch.arange(patches.columns, device=device) + 1).flatten()
        of_patches = self.image_pos_ln(self.embed_image_positions(places))
        of_words = self.pos_ln(self.embed_positions(torch.arange(words, device=device)))
        return torch.cat([of_patches, of_words])[None]
