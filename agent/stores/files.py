"""Files of conversations, named by their content, in a user's folder of bounded size."""

import os
from pathlib import Path

from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write


class FileStore:
    """A folder of files named by a sha256; the least recently used files are deleted first.

    Args:
        folder: created with the first file.
        max_bytes: largest total size of the files.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes

    def put(self, name: str, data: bytes) -> None:
        """Store a file; an existing file of this name stays.

        Raises:
            NamepinError: E500 when it cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not (self.folder / name).exists():
                atomic_write(self.folder / name, data)
            self._make_room(name)
        except OSError as error:
            reason = error.strerror or str(error)
            raise NamepinError("E500", f"cannot store the file: {reason}", where=str(self.folder)) from error

    def get(self, name: str) -> bytes | None:
        """A file's bytes; None if it is not stored (any more)."""
        try:
            data = (self.folder / name).read_bytes()
            os.utime(self.folder / name)
        except OSError:
            return None
        return data

    def _make_room(self, keep: str) -> None:
        files = sorted((p for p in self.folder.iterdir() if p.is_file()), key=lambda p: p.stat().st_mtime)
        total = sum(p.stat().st_size for p in files)
        for path in files:
            if total <= self.max_bytes:
                return
            if path.name != keep:
                total -= path.stat().st_size
                path.unlink(missing_ok=True)
