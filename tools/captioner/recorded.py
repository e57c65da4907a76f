"""Captions that were made earlier, by picture: from a file, or from a data set's `captions/` and its pictures."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from namepin.tools.base import digest, file_sha256, fingerprint
from namepin.tools.captioner.config import RecordedCaptionerConfig
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.interfaces import Caption, CaptionRequest
from namepin.tools.media import Media


class RecordedCaptioner:
    """Serves recorded captions (`Captioner`)."""

    name: ClassVar[str] = "captioner"
    version: ClassVar[int] = 1

    def __init__(self, config: RecordedCaptionerConfig, captions: Mapping[str, str] | None = None) -> None:
        """Read the file of `config`, unless the captions are given, by the picture's sha256.

        Raises:
            NamepinError: as `read_captions`.
        """
        self.config = config
        self._captions = dict(captions if captions is not None else read_captions(config))
        self._digest = digest(self._captions)

    @property
    def fingerprint(self) -> str:
        """The captions and their pictures; not the file's place."""
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
    """Sha256 of a picture -> its caption. Rows of posts whose picture is not in the folder are passed over.

    Raises:
        NamepinError: E130 when the file or folder is missing, E134 when a row is no caption.
    """
    path = Path(config.file)
    folder = Path(config.images) if config.images else None
    if not path.is_file() or (folder and not folder.is_dir()):
        missing = path if not path.is_file() else folder
        raise NamepinError(
            "E130", "no recorded captions here", where=str(missing), mend="check captioner.file, .images"
        )
    captions: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.strip():
            sha256, caption = _row(line, folder, f"{path}:{number}")
            if sha256:
                captions[sha256] = caption
    return captions


def _row(line: str, folder: Path | None, where: str) -> tuple[str | None, str]:
    mend = 'a row is {"image": sha256, "caption"}, or {"id", "caption"} with captioner.images set'
    try:
        row = json.loads(line)
        caption = " ".join(str(row["caption"]).split())
        if "image" in row:
            if not re.fullmatch("[0-9a-f]{64}", row["image"]):
                raise ValueError("`image` is no sha256")
            return row["image"], caption
        if folder is None:
            raise ValueError("the row names a post, but captioner.images is not set")
        picture = folder / f"{Path(str(row['id'])).name}.jpg"
    except (ValueError, TypeError, KeyError) as error:
        raise NamepinError("E134", f"not a recorded caption: {error}", where=where, mend=mend) from error
    return (file_sha256(picture) if picture.is_file() else None), caption


class RecordedDescriber(RecordedCaptioner):
    """Serves recorded descriptions, such as mPLUG-Owl's of the RiVEG authors' release."""

    name: ClassVar[str] = "describer"
