"""OFA (Wang et al., 2022), one encoder-decoder for pictures, words and places, in plain PyTorch.

Parts are named as in OFA's own checkpoints. What only served the drawing of pictures (the decoder's code positions) is
left out.
"""

from tools.nets.ofa.beam import Beams, beam_search
from tools.nets.ofa.decoder import Cache
from tools.nets.ofa.model import Ofa
from tools.nets.ofa.search import continuations
from tools.nets.ofa.sizes import Memory, OfaSizes, Patches

__all__ = ["Beams", "Cache", "Memory", "Ofa", "OfaSizes", "Patches", "beam_search", "continuations"]
