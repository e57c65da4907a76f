"""JSON of annotation tools, and the numbers in it."""

import json
import math
from collections.abc import Sequence
from typing import Any


def parse_tool_json(data: bytes) -> Any:
    """A tool's file as JSON. A number that is not finite becomes null, so that it costs one region and not the file.

    Raises:
        ValueError: when the file is not JSON.
    """
    try:
        return json.loads(data, parse_constant=lambda _: None, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("not JSON: nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error


def _finite(text: str) -> float | None:
    value = float(text)
    return value if math.isfinite(value) else None


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
