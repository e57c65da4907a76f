"""Files of conversations under a name that their content decides, in a folder of the user's, bounded in size."""

import os
from pathlib import Path

from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write


class FileStore:
    """A folder of files named by a sha256; the ones that were not used for longest go first.

    Args:
        folder: made when the first file comes.
        max_bytes: of all files together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes

    def put(self, name: str, data: bytes) -> None:
        """Keep a file; one of this name that is there already stays.

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
            raise NamepinError("E500", f"cannot keep the file: {reason}", where=str(self.folder)) from error

    def get(self, name: str) -> bytes | None:
        """A file's bytes; None where it is not kept (any more)."""
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
