"""Inputs for the tests of batches, and runs in processes of their own that can be killed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.forked import Forked, namepin

NAMES = ("Bob Dylan in Oslo", "Angelina Jolie at the White House", "nothing to see", "NASA and Apple", "Paris Hilton")


def write_posts(path: Path, number: int, **extra: Any) -> Path:
    """Posts of text alone, their ids in order."""
    rows = [{"id": f"p{i:04}", "text": f"{NAMES[i % len(NAMES)]} {i}", **extra} for i in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def timeless(path: Path) -> list[dict[str, Any]]:
    """Predictions without what the clock decides."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "timings_ms"} for row in rows]


def start(arguments: Sequence[str | Path]) -> Forked:
    """`namepin batch ...` in a process of its own."""
    return namepin("batch", *arguments)
