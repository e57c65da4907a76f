"""Results that an earlier run saved, one JSON line a post."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from namepin.tools.types import Extraction


def read_saved(path: Path) -> Iterator[Extraction]:
    """Earlier results; a line that was cut off when the run was stopped is skipped, since its post is run again."""
    if not path.is_file():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            yield Extraction.model_validate_json(line)
        except ValidationError:
            continue
