"""Results that an earlier run saved, one JSON line per post."""

from collections.abc import Iterator
from pathlib import Path

from namepin.tools.jsonl import read_lines
from namepin.tools.types import Extraction


def read_saved(path: Path) -> Iterator[Extraction]:
    """Earlier results. A truncated line of a stopped run is skipped, and its post runs again."""
    for line in read_lines(path) if path.is_file() else ():
        try:
            result = Extraction.model_validate(line.parse())
        except ValueError:
            continue
        yield result
