"""Batches on a full device."""

import pytest
import torch

from namepin.tools.errors import ToolUnavailable
from namepin.tools.loading.out_of_memory import in_batches


def a_device(fits: int, error: Exception) -> tuple[list[int], object]:
    sizes: list[int] = []

    def run(part: slice) -> list[int]:
        sizes.append(part.stop - part.start)
        if sizes[-1] > fits:
            raise error
        return list(range(part.start, part.stop))

    return sizes, run


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), RuntimeError("MPS backend out of memory (...)")])
def test_in_batches_on_full_memory_halves_batch_with_w144(error: Exception) -> None:
    sizes, run = a_device(4, error)
    parts, notices = in_batches(11, 8, run, "t")  # type: ignore[arg-type]
    assert sum(parts, []) == list(range(11))
    assert sizes == [8, 4, 4, 3]
    assert [notice.code for notice in notices] == ["W144"]


@pytest.mark.parametrize(("rows", "fits"), [(8, 3), (1, 0)])
def test_in_batches_on_too_small_device_raises_tool_unavailable(rows: int, fits: int) -> None:
    _, run = a_device(fits, torch.OutOfMemoryError("full"))
    with pytest.raises(ToolUnavailable, match="memory is full"):
        in_batches(rows, 8, run, "t")  # type: ignore[arg-type]


def test_in_batches_with_other_error_reraises_it() -> None:
    _, run = a_device(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(2, 8, run, "t")  # type: ignore[arg-type]


def test_in_batches_without_rows_returns_empty() -> None:
    assert in_batches(0, 8, lambda part: part, "t") == ([], ())
