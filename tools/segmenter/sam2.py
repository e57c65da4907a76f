"""SAM 2 as a segmenter: turns a point, a box, or both into a mask and its tight box."""

from typing import ClassVar

from namepin.tools.models.sam2 import Sam2, shared_sam2
from namepin.tools.segmenter.config import Sam2SegmenterConfig, SamSegmenterConfig
from namepin.tools.segmenter.sam import SamSegmenter


class Sam2Segmenter(SamSegmenter):
    """`SamSegmenter` with SAM 2: the same choice among its masks, and the same score."""

    name: ClassVar[str] = "segmenter_sam2"
    version: ClassVar[int] = 2

    def __init__(self, config: Sam2SegmenterConfig, sam: Sam2 | None = None) -> None:
        """Use `sam` if given, else load or share the model of `config.sam`.

        Raises:
            NamepinError: E210 to E216, as `shared_sam2`.
        """
        super().__init__(SamSegmenterConfig(sam=config.sam), sam or shared_sam2(config.sam))
