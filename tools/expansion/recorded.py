"""Recorded expansions from a file, by post and mention."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from namepin.tools.base import digest, fingerprint
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.expansion.config import RecordedExpansionConfig
from namepin.tools.interfaces import ExpandRequest, Expansion
from namepin.tools.jsonl import read_rows
from namepin.tools.media import Media


class RecordedExpansion:
    """Serves recorded expansions (`ExpansionTool`). Differences in white space are ignored."""

    name: ClassVar[str] = "expansion"
    version: ClassVar[int] = 1

    def __init__(self, config: RecordedExpansionConfig) -> None:
        """Read the file of `config`.

        Raises:
            NamepinError: E130 when it is missing, E134 when a row is not an expansion.
        """
        self.config = config
        self._rows = read_expansions(Path(config.file))
        self._digest = digest(sorted([*key, value] for key, value in self._rows.items()))

    @property
    def fingerprint(self) -> str:
        """Covers the rows; not the file's path."""
        return fingerprint(self.name, self.version, {}, weights=self._digest)

    def run(self, requests: Sequence[ExpandRequest], media: Media) -> list[Expansion]:
        """Look every mention up; the background is not used.

        Raises:
            ToolUnavailable: when a mention has no recorded expansion.
        """
        found = []
        for request in requests:
            text = self._rows.get((_key(request.text), _key(request.entity)))
            if text is None:
                raise ToolUnavailable(self.name, f"no expansion is recorded for {request.entity[:60]!r} in this post")
            found.append(Expansion(text=text))
        return found


def read_expansions(path: Path) -> Mapping[tuple[str, str], str]:
    """(post, name) -> expansion.

    Raises:
        NamepinError: E130 when the file is missing, E134 when a row is not an expansion.
    """
    if not path.is_file():
        raise NamepinError("E130", "no recorded expansions here", where=str(path), mend="check expansion.file")
    return dict(read_rows(path, _row, "a row of post, text, expansion"))


def _row(row: dict[str, Any]) -> tuple[tuple[str, str], str]:
    post, name, expansion = (_key(str(row[key])) for key in ("post", "text", "expansion"))
    return (post, name), expansion


def _key(text: str) -> str:
    return " ".join(text.split())
