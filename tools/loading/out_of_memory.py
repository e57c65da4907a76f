"""Batches on a device whose memory may be full: the batch is halved once, with a warning."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from namepin.tools.errors import ToolUnavailable
from namepin.tools.types import Notice

Part = TypeVar("Part")

log = logging.getLogger(__name__)


def in_batches(rows: int, size: int, run: Callable[[slice], Part], tool: str) -> tuple[list[Part], tuple[Notice, ...]]:
    """Call `run` over slices of at most `size` rows. When the device's memory is full, slices are halved once.

    Args:
        rows: number of rows.
        size: number of rows per batch to try first.
        run: computes a slice of the rows.
        tool: name of the tool, for the warning.

    Returns:
        The results of `run`, slice by slice, and a warning (W144) where the batch was halved.

    Raises:
        ToolUnavailable: when half the batch does not fit either, or the batch has one row.
    """
    parts: list[Part] = []
    notices: tuple[Notice, ...] = ()
    start = 0
    while start < rows:
        part = slice(start, min(start + size, rows))
        try:
            parts.append(run(part))
        except RuntimeError as error:
            if not _memory_is_full(error):
                raise
            half = (part.stop - part.start) // 2
            if notices or not half:
                mend = "use a smaller dtype or another device"
                raise ToolUnavailable(tool, "the device's memory is full", mend=mend) from error
            message = f"the device's memory was full: {half} at a time instead of {part.stop - part.start}"
            log.warning("%s: %s", tool, message)
            notices, size = (Notice(code="W144", tool=tool, message=message),), half
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        start = part.stop
    return parts, notices


def _memory_is_full(error: RuntimeError) -> bool:
    # Metal has no error type of its own.
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)
