"""The pictures of conversations: files named by their content's sha256, in a folder of the user's, bounded in size."""

import base64
import binascii
import hashlib
import os
import tempfile
from pathlib import Path

from tools.errors import NamepinError
from tools.images import LoadedImage, load_image
from tools.types import ImageRef


def decoded(data: str) -> bytes:
    """A picture's file from its base64.

    Raises:
        NamepinError: E123 when it is none.
    """
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NamepinError("E123", "the picture is not base64", mend="encode the file's bytes as base64") from error


class Pictures:
    """Keeps what was uploaded as it was: bytes, never opened by name or type, read back through the checked decoder.

    Args:
        folder: made when the first picture comes.
        max_bytes: of all pictures together; the ones that were not used for longest go first.
        max_pixels: of one picture, checked before it is decoded.
    """

    def __init__(self, folder: Path, max_bytes: int = 2**30, max_pixels: int = 64_000_000) -> None:
        self.folder, self.max_bytes, self.max_pixels = folder, max_bytes, max_pixels

    def keep(self, data: bytes) -> ImageRef:
        """Check a picture by decoding it, and keep it.

        Raises:
            NamepinError: E12x when it is no picture, or too large; E500 when it cannot be written.
        """
        ref = load_image(data, max_pixels=self.max_pixels).ref
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not (self.folder / ref.sha256).exists():
                with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
                    file.write(data)
                os.replace(file.name, self.folder / ref.sha256)
            self._make_room(ref.sha256)
        except OSError as error:
            reason = error.strerror or str(error)
            raise NamepinError("E500", f"cannot keep the picture: {reason}", where=str(self.folder)) from error
        return ref

    def open(self, ref: ImageRef) -> LoadedImage:
        """A kept picture; errors as `find`."""
        return self.find(ref.sha256)

    def find(self, sha256: str) -> LoadedImage:
        """A kept picture, by its content alone.

        Raises:
            NamepinError: E120 when it is not there any more, or not what it was.
        """
        try:
            data = (self.folder / sha256).read_bytes()
        except OSError as error:
            raise self._gone() from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise self._gone()
        os.utime(self.folder / sha256)
        return load_image(data, max_pixels=self.max_pixels)

    def _gone(self) -> NamepinError:
        return NamepinError("E120", "the picture of that post is not kept any more", mend="send the post again")

    def _make_room(self, keep: str) -> None:
        files = sorted((p for p in self.folder.iterdir() if p.is_file()), key=lambda p: p.stat().st_mtime)
        total = sum(p.stat().st_size for p in files)
        for path in files:
            if total <= self.max_bytes:
                return
            if path.name != keep:
                total -= path.stat().st_size
                path.unlink(missing_ok=True)
