"""JSON of annotation tools, and the numbers in it."""

from collections.abc import Sequence
from typing import Any

from namepin.tools.jsonl import parse_json


def parse_tool_json(data: bytes) -> Any:
    """A tool's file as JSON. A number that is not finite becomes null, so that it costs one region and not the file.

    Raises:
        ValueError: when the file is not UTF-8 or not JSON.
    """
    return parse_json(data, non_finite_as_null=True)


def finite_numbers(values: Any, count: int) -> list[float]:
    """The values as `count` finite numbers.

    Raises:
        ValueError: when they are not.
    """
    if isinstance(values, str) or not isinstance(values, Sequence) or len(values) != count:
        raise ValueError(f"not {count} numbers: {values!r:.80}")
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not {count} numbers: {values!r:.80}") from error
    if not all(abs(value) < 1e9 for value in numbers):  # not NaN either
        raise ValueError(f"not {count} numbers of a picture's size: {values!r:.80}")
    return numbers
