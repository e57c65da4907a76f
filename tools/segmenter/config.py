"""Settings of the segmenter's backends."""

from typing import Annotated

from pydantic import Field

from namepin.tools.models.config import Sam2Config, Sam3Config, SamConfig, SeemConfig
from namepin.tools.types import Frozen
from namepin.tools.vision.config import SceneConfig


class SegmenterConfig(Frozen):
    """The settings of the scene, shared with the matcher, and the long side, in pixels, at which GrabCut works."""

    scene: SceneConfig = SceneConfig()
    side: int = 320


class SamSegmenterConfig(Frozen):
    """The SAM of the segmenter. Other tools of equal `sam` share the loaded weights."""

    sam: SamConfig = SamConfig()
    specks: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Parts of a mask below this share of its largest part are removed, since one speck makes the box much larger. The
    rule is ours; SAM's own mask generator removes small regions, too."""


class Sam2SegmenterConfig(Frozen):
    """The SAM 2 of the segmenter. Other tools of equal `sam` share the loaded weights."""

    sam: Sam2Config = Sam2Config()


class StarterSam2Config(SegmenterConfig):
    """The settings of the starter's segmenter, and the SAM 2 for things."""

    sam: Sam2Config = Sam2Config(weights="facebook/sam2.1-hiera-tiny")


class Sam3SegmenterConfig(Frozen):
    """The net, and the lowest score of an instance."""

    sam: Sam3Config = Sam3Config()
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The lowest score of an instance; SAM 3's own default."""


class SeemSegmenterConfig(Frozen):
    """The SEEM of the segmenter. Other tools of equal `seem` share the loaded weights."""

    seem: SeemConfig = SeemConfig()


class GemSegmenterConfig(Frozen):
    """The two nets, and the overlap from which on their masks mean the same object."""

    sam: SamConfig = SamConfig()
    seem: SeemConfig = SeemConfig()
    agreement: Annotated[float, Field(gt=0, le=1)] = 0.5
    """IoU; 0.5 is also the usual threshold of the metrics."""
