"""The whole net: from picture and tokens to logits over the shared vocabulary of words, codes and locations."""

from torch import Tensor, nn
from torch.nn import functional

from namepin.tools.nets.ofa.decoder import Cache, Decoder
from namepin.tools.nets.ofa.encoder import Encoder
from namepin.tools.nets.ofa.sizes import Memory, OfaSizes, Patches


class Ofa(nn.Module):
    """OFA; encoder, decoder and logits share one table of token embeddings."""

    def __init__(self, sizes: OfaSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.encoder = Encoder(sizes)
        self.decoder = Decoder(sizes)

    def look(self, pixels: Tensor) -> Patches:
        """Patches of pictures (n, 3, height, width), which all texts about a picture share."""
        patches: Patches = self.encoder.look(pixels)
        return patches

    def encode(self, patches: Patches, ids: Tensor, mask: Tensor) -> Memory:
        """Encode texts about pictures.

        Args:
            patches: patches of n pictures, or of one picture that all texts are about.
            ids: (n, tokens), padded on the right.
            mask: (n, tokens), true at the texts' own tokens.
        """
        memory: Memory = self.encoder(patches, ids, mask)
        return memory

    def decode(self, tokens: Tensor, memory: Memory, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """States of the next tokens.

        Args:
            tokens: (sources * group, tokens) after those of `cache`; each `group` of rows shares a source.
            memory: the sources' memory.
            cache: cache of the previous tokens.

        Returns:
            (sources * group, tokens, width), and the cache that includes these tokens.
        """
        states: tuple[Tensor, Cache] = self.decoder(self.encoder.embed_tokens(tokens), memory, cache)
        return states

    def logits(self, states: Tensor) -> Tensor:
        """(..., width) to (..., vocabulary)."""
        return functional.linear(states, self.encoder.embed_tokens.weight)

    def forward(self, pixels: Tensor, ids: Tensor, mask: Tensor, tokens: Tensor) -> Tensor:
        """Logits (n, tokens, vocabulary) of the token after each of `tokens`, with one picture per text."""
        states, _ = self.decode(tokens, self.encode(self.look(pixels), ids, mask))
        return self.logits(states)
