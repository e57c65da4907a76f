"""Files: safe names for any text, and atomic writes: a reader sees the old file or the new one, never a part."""

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_MAX_STEM, _MAX_PREFIX, _PARTIAL = 120, 60, ".part"
_STRANGE = re.compile(rb"[^A-Za-z0-9_.-]")
_OUTSIDE = re.compile(r"[\\:\x00]")
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul", *(f"{device}{number}" for device in ("com", "lpt") for number in range(1, 10))}
)


def file_name(name: str, suffix: str = "") -> str:
    """A file name for any text: one path component, different for different texts.

    ASCII letters, digits, `_`, `-` and inner dots stay. Each other byte of the UTF-8 text becomes `=XX`. A long name is
    cut, and ends in `~` and a hash of the whole text. On a file system that ignores case, `A` and `a` are one name.

    Args:
        name: an id, a label or any other text, also untrusted text.
        suffix: appended unchanged, such as ".jpg".
    """
    data = name.encode("utf-8", "surrogatepass")
    stem = _STRANGE.sub(lambda match: b"=%02X" % match[0][0], data).decode("ascii")
    if stem.startswith("."):
        stem = f"=2E{stem[1:]}"
    if stem.endswith("."):
        stem = f"{stem[:-1]}=2E"
    if stem.partition(".")[0].lower() in _DEVICES:  # reserved names of Windows
        stem = f"={data[0]:02X}{stem[1:]}"
    if len(stem) > _MAX_STEM:
        stem = f"{stem[:_MAX_STEM]}~{hashlib.sha256(data).hexdigest()[:32]}"
    return (stem or "=") + suffix


def file_of(folder: Path, name: str, suffix: str = "") -> Path:
    """The path to read a file of this name from: the bare name where that file exists, else `file_name`.

    Published data sets name files by the bare id, which may hold spaces, letters of any script and folders. The path
    lies within the folder, whatever the name is.
    """
    bare = folder / (name + suffix)
    if not any(part in ("", ".", "..") or _OUTSIDE.search(part) for part in name.split("/")):
        with suppress(OSError, ValueError):  # too long, or text that no file system can hold
            if bare.is_file():
                return bare
    return folder / file_name(name, suffix)


def atomic_write(path: Path, data: str | bytes | Iterable[bytes]) -> None:
    """Write a file beside `path`, flush it to disk, and move it to `path`.

    Raises:
        OSError: when it cannot be written. An existing file then stays.
    """
    with atomic_stream(path) as file:
        if isinstance(data, str):
            file.write(data.encode())
        elif isinstance(data, bytes):
            file.write(data)
        else:
            file.writelines(data)


@contextmanager
def atomic_stream(path: Path) -> Iterator[IO[bytes]]:
    """A binary stream whose bytes become the file `path` when the block ends without an error, as in `atomic_write`."""
    with atomic_path(path) as partial, partial.open("wb") as file:
        yield file


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A new, empty file beside `path` for a library to write. It replaces `path` when the block ends without an error.

    Raises:
        OSError: when it cannot be written. An existing file then stays.
    """
    partial = path.with_name(f".{path.name[:_MAX_PREFIX]}.{secrets.token_hex(4)}{_PARTIAL}")
    os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    try:
        yield partial
        sync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync(path.parent)


def remove_leftovers(path: Path) -> None:
    """Delete the partial files that killed writers of `path` left. Only the one process that writes there may do so."""
    for partial in path.parent.glob(f".{_literal(path.name[:_MAX_PREFIX])}.????????{_PARTIAL}"):
        partial.unlink(missing_ok=True)


def _literal(name: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", name)


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
