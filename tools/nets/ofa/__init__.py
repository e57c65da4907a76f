"""OFA (Wang et al., 2022), one encoder-decoder for pictures, words and places, in plain PyTorch.

Parts are named as in OFA's own checkpoints. Parts for image generation only (the decoder's code positions) are left
out.
"""

from namepin.tools.nets.ofa.beam import Beams, beam_search
from namepin.tools.nets.ofa.decoder import Cache
from namepin.tools.nets.ofa.model import Ofa
from namepin.tools.nets.ofa.search import continuations
from namepin.tools.nets.ofa.sizes import Memory, OfaSizes, Patches

__all__ = ["Beams", "Cache", "Memory", "Ofa", "OfaSizes", "Patches", "beam_search", "continuations"]
