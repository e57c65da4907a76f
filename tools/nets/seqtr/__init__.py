"""SeqTR (Zhu et al., ECCV 2022): a transformer that generates a box or an outline coordinate by coordinate.

A DarkNet-53 encodes the picture and a GRU the expression. Their features are multiplied, and a transformer encodes the
product. Its decoder generates binned coordinates one after another: four for a box; x and y of each corner for an
outline, which ends with an end token.

Parameters are named as in the authors' checkpoints (`tools/models/seqtr_checkpoint.py`).
"""

from namepin.tools.nets.seqtr.net import Seqtr
from namepin.tools.nets.seqtr.sizes import HEADS, STRIDE, Memory, SeqtrSizes, TokenSequences
from namepin.tools.nets.seqtr.transformer import Attention

__all__ = ["HEADS", "STRIDE", "Attention", "Memory", "Seqtr", "SeqtrSizes", "TokenSequences"]
