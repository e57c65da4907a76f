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
def test_the_batch_is_halved_once_and_said_so(error: Exception) -> None:
    sizes, run = a_device(4, error)
    parts, notices = in_batches(11, 8, run, "t")  # type: ignore[arg-type]
    assert sum(parts, []) == list(range(11))
    assert sizes == [8, 4, 4, 3]
    assert [notice.code for notice in notices] == ["W144"]


@pytest.mark.parametrize(("rows", "fits"), [(8, 3), (1, 0)])
def test_a_device_too_small_is_down(rows: int, fits: int) -> None:
    _, run = a_device(fits, torch.OutOfMemoryError("full"))
    with pytest.raises(ToolUnavailable, match="memory is full"):
        in_batches(rows, 8, run, "t")  # type: ignore[arg-type]


def test_other_errors_are_not_hidden() -> None:
    _, run = a_device(0, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        in_batches(2, 8, run, "t")  # type: ignore[arg-type]


def test_no_rows() -> None:
    assert in_batches(0, 8, lambda part: part, "t") == ([], ())
