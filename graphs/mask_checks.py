"""Detects a mask that missed its object (RiVEG Figure 12): its tight box disagrees with the prompt's box."""

from collections.abc import Iterable

from namepin.tools.errors import ToolUnavailable
from namepin.tools.geometry import box_iou
from namepin.tools.interfaces import Segment, SegmentPrompt
from namepin.tools.types import Box, ImageRef, Mask, Notice

MISSED = "W124"


def check_masks(role: str, masks: Iterable[Mask | None], image: ImageRef) -> None:
    """Refuse masks that do not have the picture's size. The post then continues without masks.

    Raises:
        ToolUnavailable: a mask has another size.
    """
    for mask in masks:
        if mask is not None and mask.size != (image.height, image.width):
            size = f"{mask.size[1]} x {mask.size[0]}"
            raise ToolUnavailable(role, f"gave a mask of {size} for a picture of {image.width} x {image.height}")


def mask_missed(asked: SegmentPrompt | Box, segment: Segment, agreement: float) -> bool:
    """Whether the IoU of the mask's tight box and the prompt's box is below `agreement`; False without a mask."""
    box = asked.box if isinstance(asked, SegmentPrompt) else asked
    if box is None or segment.mask is None or segment.box is None:
        return False
    return box_iou(box, segment.box) < agreement


def missed_notice(prompt: SegmentPrompt, segment: Segment) -> Notice:
    """W124, with the numbers."""
    assert prompt.box is not None and segment.box is not None
    iou = box_iou(prompt.box, segment.box)
    what = f"the mask of {prompt.query.text!r} does not fill its box (IoU of the boxes {iou:.2f}); look before use"
    return Notice(code=MISSED, tool="segmenter", message=what)
