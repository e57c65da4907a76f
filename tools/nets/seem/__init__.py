"""SEEM (Zou et al. 2023): from pixels, a point or a stroke, and words to masks; plain PyTorch, inference only.

The parameters carry the names of the published checkpoints, so that a state dict loads key for key.
"""

from namepin.tools.nets.seem.decoder import Prediction
from namepin.tools.nets.seem.net import Features, Seem, SeemSizes, Words

__all__ = ["Features", "Prediction", "Seem", "SeemSizes", "Words"]
