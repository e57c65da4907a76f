"""Recorded captions by picture: from a file, or from a data set's `captions/` and its pictures."""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from namepin.tools.base import digest, file_sha256, fingerprint
from namepin.tools.captioner.config import RecordedCaptionerConfig
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.files import file_of
from namepin.tools.interfaces import Caption, CaptionRequest
from namepin.tools.jsonl import read_rows
from namepin.tools.media import Media


class RecordedCaptioner:
    """Serves recorded captions (`Captioner`)."""

    name: ClassVar[str] = "captioner"
    version: ClassVar[int] = 1

    def __init__(self, config: RecordedCaptionerConfig, captions: Mapping[str, str] | None = None) -> None:
        """Use the given captions (sha256 of a picture -> caption), else read the file of `config`.

        Raises:
            NamepinError: as `read_captions`.
        """
        self.config = config
        self._captions = dict(captions if captions is not None else read_captions(config))
        self._digest = digest(self._captions)

    @property
    def fingerprint(self) -> str:
        """Covers the captions and their pictures; not the file's path."""
        return fingerprint(self.name, self.version, {}, weights=self._digest)

    def run(self, requests: Sequence[CaptionRequest], media: Media) -> list[Caption]:
        """Look every picture up.

        Raises:
            ToolUnavailable: when a picture has no recorded caption.
        """
        for request in requests:
            if request.image.sha256 not in self._captions:
                raise ToolUnavailable(self.name, f"no caption is recorded for the picture {request.image.sha256[:12]}")
        return [Caption(text=self._captions[request.image.sha256]) for request in requests]


def read_captions(config: RecordedCaptionerConfig) -> dict[str, str]:
    """Sha256 of a picture -> its caption. Rows of posts whose picture is not in the folder are skipped.

    Raises:
        NamepinError: E130 when the file or folder is missing, E134 when a row is not a caption.
    """
    path = Path(config.file)
    folder = Path(config.images) if config.images else None
    if not path.is_file() or (folder and not folder.is_dir()):
        missing = path if not path.is_file() else folder
        raise NamepinError(
            "E130", "no recorded captions here", where=str(missing), mend="check captioner.file, .images"
        )
    mend = 'a row is {"image": sha256, "caption"}, or {"id", "caption"} with captioner.images set'
    rows = read_rows(path, partial(_row, folder), "a recorded caption", mend)
    return {sha256: caption for sha256, caption in rows if sha256}


def _row(folder: Path | None, row: dict[str, Any]) -> tuple[str | None, str]:
    caption = " ".join(str(row["caption"]).split())
    if "image" in row:
        if not re.fullmatch("[0-9a-f]{64}", row["image"]):
            raise ValueError("`image` is not a sha256")
        return row["image"], caption
    if folder is None:
        raise ValueError("the row names a post, but captioner.images is not set")
    picture = file_of(folder, str(row["id"]), ".jpg")
    return (file_sha256(picture) if picture.is_file() else None), caption


class RecordedDescriber(RecordedCaptioner):
    """Serves recorded descriptions, such as mPLUG-Owl's of the RiVEG authors' release."""

    name: ClassVar[str] = "describer"
