"""Settings of the segmenter's backends."""

from typing import Annotated

from pydantic import Field

from namepin.tools.models.config import Sam2Config, Sam3Config, SamConfig, SeemConfig
from namepin.tools.types import Frozen
from namepin.tools.vision.config import SceneConfig


class SegmenterConfig(Frozen):
    """The scene as the matcher sees it, and the long side, in pixels, at which GrabCut works."""

    scene: SceneConfig = SceneConfig()
    side: int = 320


class SamSegmenterConfig(Frozen):
    """The segmenter is its SAM; other tools of equal `sam` share the loaded weights."""

    sam: SamConfig = SamConfig()
    specks: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Parts of a mask that are smaller than this share of its largest part are left out, since one speck makes the box
    much larger; ours, as SAM's own generator of masks leaves small regions out."""


class Sam2SegmenterConfig(Frozen):
    """The segmenter is its SAM 2; other tools of equal `sam` share the loaded weights."""

    sam: Sam2Config = Sam2Config()


class Sam3SegmenterConfig(Frozen):
    """The net, and from which score on an instance counts."""

    sam: Sam3Config = Sam3Config()
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """SAM 3's own, for instances."""


class SeemSegmenterConfig(Frozen):
    """The segmenter is its SEEM; other tools of equal `seem` share the loaded weights."""

    seem: SeemConfig = SeemConfig()


class GemSegmenterConfig(Frozen):
    """The two nets, and how far their masks must overlap to mean the same thing."""

    sam: SamConfig = SamConfig()
    seem: SeemConfig = SeemConfig()
    agreement: Annotated[float, Field(gt=0, le=1)] = 0.5
    """IoU; 0.5 is also where the field's metrics call two regions the same."""
