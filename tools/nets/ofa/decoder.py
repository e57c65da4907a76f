"""OFA's decoder: tokens one after another, with attention to the encoder's memory."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from namepin.tools.nets.ofa.attention import Attention, Perceptron, looked_up, norm_after, position_bias, word_buckets
from namepin.tools.nets.ofa.sizes import Memory, OfaSizes


@dataclass(frozen=True)
class Cache:
    """Keys and values computed so far.

    Attributes:
        own: of the tokens: one pair per layer, each (rows, heads, tokens, head).
        memory: of the encoder's states: one pair per layer, each (sources, heads, states, head).
    """

    own: tuple[tuple[Tensor, Tensor], ...]
    memory: tuple[tuple[Tensor, Tensor], ...]

    @property
    def length(self) -> int:
        """Number of tokens in the cache."""
        return self.own[0][0].shape[2]

    def rows(self, chosen: Tensor) -> "Cache":
        """The cache of the given rows, (rows). Each row keeps its source, and groups have equal size."""
        return Cache(tuple((keys[chosen], values[chosen]) for keys, values in self.own), self.memory)


class DecoderLayer(Perceptron):
    """Self-attention, attention to the memory, and an MLP."""

    def __init__(self, sizes: OfaSizes) -> None:
        super().__init__(sizes)
        self.self_attn = Attention(sizes)
        self.self_attn_layer_norm = nn.LayerNorm(sizes.width)
        self.self_attn_ln = norm_after(sizes)
        self.encoder_attn = Attention(sizes)
        self.encoder_attn_layer_norm = nn.LayerNorm(sizes.width)
        self.cross_attn_ln = norm_after(sizes)

    def forward(
        self,
        states: Tensor,
        bias: Tensor,
        before: tuple[Tensor, Tensor] | None,
        memory: tuple[Tensor, Tensor],
        memory_bias: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(rows, tokens, width) to the same, and the keys and values of all tokens up to these."""
        normed = self.self_attn_layer_norm(states)
        keys, values = self.self_attn.keys_values(normed)
        if before is not None:
            keys, values = torch.cat([before[0], keys], dim=2), torch.cat([before[1], values], dim=2)
        states = states + self.self_attn_ln(self.self_attn(normed, keys, values, bias))
        attended = self.encoder_attn(self.encoder_attn_layer_norm(states), *memory, memory_bias)
        return self.think(states + self.cross_attn_ln(attended)), (keys, values)


class Decoder(nn.Module):
    """The layers, and the position biases among tokens and between tokens and memory."""

    def __init__(self, sizes: OfaSizes) -> None:
        super().__init__()
        self.sizes, width = sizes, sizes.width
        self.layernorm_embedding = nn.LayerNorm(width)
        self.embed_positions = nn.Embedding(sizes.positions + 2, width)
        self.pos_ln = nn.LayerNorm(width)
        self.self_pos_q_linear = nn.Linear(width, width)
        self.self_pos_k_linear = nn.Linear(width, width)
        self.cross_pos_q_linear = nn.Linear(width, width)
        self.cross_pos_k_linear = nn.Linear(width, width)
        self.layers = nn.ModuleList(DecoderLayer(sizes) for _ in range(sizes.decoder_layers))
        self.layer_norm = nn.LayerNorm(width)
        words = 2 * sizes.token_bucket - 1
        self.token_rel_pos_table_list = nn.ModuleList(
            nn.Embedding(words, sizes.heads) for _ in range(sizes.decoder_layers)
        )

    def forward(self, embedded: Tensor, memory: Memory, cache: Cache | None) -> tuple[Tensor, Cache]:
        """States of the next tokens.

        Args:
            embedded: (sources * group, tokens, width), embeddings of the tokens after those of `cache`.
            memory: the sources' memory; each `group` of rows shares one source.
            cache: cache of the previous tokens; None at the start.

        Returns:
            (sources * group, tokens, width), and the cache with these tokens.
        """
        start = cache.length if cache is not None else 0
        stop = start + embedded.shape[1]
        places = self.embed_positions(torch.arange(stop, device=embedded.device))
        states = self.layernorm_embedding(embedded + places[start:] if self.sizes.entangled else embedded)
        bias, memory_bias = self._biases(self.pos_ln(places)[None], start, memory)
        across = cache.memory if cache is not None else self._memory_keys(memory)
        buckets = word_buckets(start, stop, self.sizes.token_bucket, embedded.device)
        own = []
        for index, (layer, table) in enumerate(zip(self.layers, self.token_rel_pos_table_list, strict=True)):
            before = cache.own[index] if cache is not None else None
            states, pair = layer(states, bias + looked_up(table, buckets), before, across[index], memory_bias)
            own.append(pair)
        return self.layer_norm(states), Cache(tuple(own), across)

    def _memory_keys(self, memory: Memory) -> tuple[tuple[Tensor, Tensor], ...]:
        layers: Any = self.layers
        return tuple(layer.encoder_attn.keys_values(memory.states) for layer in layers)

    def _biases(self, places: Tensor, start: int, memory: Memory) -> tuple[Tensor, Tensor]:
        """Biases towards the tokens, with later tokens hidden, and towards the memory, with padding hidden."""
        heads, scale, now = self.sizes.heads, self.sizes.scale, places[:, start:]
        own = position_bias(self.self_pos_q_linear(now), self.self_pos_k_linear(places), heads, scale)
        later = torch.ones(own.shape[-2:], dtype=torch.bool, device=own.device).triu(start + 1)
        across = position_bias(self.cross_pos_q_linear(now), self.cross_pos_k_linear(memory.positions), heads, scale)
        if memory.mask is not None:
            across = across.masked_fill(~memory.mask[:, None, None], -torch.inf)
        return own.masked_fill(later, -torch.inf), across
