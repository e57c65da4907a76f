"""Recorded answers of an extractor, by the post's text: another system's, or an oracle's (`namepin.evals.oracle`)."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from namepin.tools.base import digest, fingerprint
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.extractor.answer import read_answer
from namepin.tools.extractor.config import RecordedExtractorConfig
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.result import extracted
from namepin.tools.interfaces import Extracted, ExtractRequest
from namepin.tools.jsonl import read_rows
from namepin.tools.media import Media


class RecordedExtractor:
    """Serves recorded answers, aligned as a model's are (`Extractor`). Boxes are pixels of the upright picture.

    Raises:
        NamepinError: E130 when the file is missing, E134 when a row is not an answer.
    """

    name: ClassVar[str] = "extractor_recorded"
    version: ClassVar[int] = 1

    def __init__(self, config: RecordedExtractorConfig) -> None:
        path = Path(config.file)
        if not path.is_file():
            raise NamepinError("E130", "no recorded answers here", where=str(path), mend="check extractor.file")
        mend = 'a row is {"text": post, "answer": [{"text", "type", "box"}]}'
        self.config, self._answers = config, dict(read_rows(path, _row, "a recorded answer", mend))
        self._digest = digest(self._answers)

    @property
    def fingerprint(self) -> str:
        """Covers the answers and the scheme; not the file's path."""
        return fingerprint(self.name, self.version, {"scheme": self.config.scheme}, weights=self._digest)

    def run(self, requests: Sequence[ExtractRequest], media: Media) -> list[Extracted]:
        """Look every post up.

        Raises:
            ToolUnavailable: when a post has no recorded answer.
        """
        return [self._extract(request) for request in requests]

    def _extract(self, request: ExtractRequest) -> Extracted:
        reply = self._answers.get(request.text)
        answer = None if reply is None else read_answer(reply, self.config.scheme)
        if answer is None:
            raise ToolUnavailable("extractor", f"no answer is recorded for the post {request.text[:40]!r}")
        size = (request.image.width, request.image.height) if request.image else None
        return extracted(request, answer, BoxFrame("pixels", size, size) if size else None, "extractor")


def _row(row: Mapping[str, Any]) -> tuple[str, str]:
    if not isinstance(row["text"], str) or not isinstance(row["answer"], list):
        raise ValueError("`text` is not text, or `answer` is not a list")
    return row["text"], json.dumps(row["answer"])
