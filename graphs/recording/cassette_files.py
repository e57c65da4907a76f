"""The files of a cassette: links are refused, and a digest covers every byte of a recording.

    manifest.json     each setup is stored under its digest cassette.jsonl    the last line is
    `{"kind":"end","sha256":...}`, over all bytes before it blobs/SHA256      each file is stored under its sha256

So an accidental or manual change is found before the recording is used. The digest is not a signature: an attacker who
changes a file can compute it again.
"""

import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from namepin.graphs.state import Json
from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write
from namepin.tools.jsonl import dump_json, parse_json

FORMAT = 2
MANIFEST, LINES, BLOBS, LOCK = "manifest.json", "cassette.jsonl", "blobs", ".lock"
_BLOB_NAME = re.compile(r"[0-9a-f]{64}")
_SEAL = "if you trust it, run: python -m namepin.graphs.recording.seal"


def read_manifest(directory: Path, version: int = FORMAT) -> Json:
    """The setups of a cassette, each under its digest.

    Raises:
        NamepinError: E401 when there is no manifest, or it is damaged or of another format.
    """
    _refuse_links(directory)
    path = directory / MANIFEST
    try:
        manifest = parse_json(read_bytes(path))
    except ValueError as error:
        raise file_error(path, f"it is {error}") from error
    found = manifest.get("format") if isinstance(manifest, dict) else None
    if type(found) is not int or found != version:
        mend = f"{_SEAL} {directory}; else record it again" if found == 1 else "record it again"
        raise file_error(path, f"its format is {found!r}, this version reads {version}", mend)
    if manifest.keys() != {"format", "setups"} or not isinstance(manifest["setups"], dict):
        raise file_error(path, "it does not hold a format and setups")
    for key, setup in manifest["setups"].items():
        if digest(setup) != key:
            raise file_error(path, f"the setup {key[:12]} was changed after it was recorded")
    setups: Json = manifest["setups"]
    return setups


def read_lines_of(directory: Path) -> list[bytes]:
    """The lines of a cassette, without the last line, which holds their digest.

    Raises:
        NamepinError: E401 when they cannot be read, or were changed after they were recorded.
    """
    _refuse_links(directory)
    path = directory / LINES
    data = read_bytes(path)
    body = data[: data.rstrip(b"\n").rfind(b"\n") + 1]
    if data[len(body) :] != end_line(body):
        raise file_error(path, "it was cut off, or changed after it was recorded")
    return body.split(b"\n")[:-1]


def end_line(body: bytes) -> bytes:
    """The last line of a cassette: the digest of the lines before it."""
    return b'{"kind":"end","sha256":"%s"}\n' % hashlib.sha256(body).hexdigest().encode()


def read_blob(directory: Path, key: Any) -> bytes:
    """The bytes of a blob that a call names.

    Raises:
        NamepinError: E401 when the name is not a digest, or the file is missing, changed or a link.
    """
    if not isinstance(key, str) or not _BLOB_NAME.fullmatch(key):
        raise file_error(directory / LINES, f"{str(key)[:80]!r} is not the name of a blob")
    _refuse_links(directory)
    path = directory / BLOBS / key
    data = read_bytes(path)
    if hashlib.sha256(data).hexdigest() != key:
        raise file_error(path, "it was changed after it was recorded")
    return data


def write_files(directory: Path, setups: Json, lines: Iterable[bytes], blobs: dict[str, bytes]) -> None:
    """Write a cassette, replacing the one in the folder. Other files in the folder are not changed.

    Raises:
        NamepinError: E401 when a file of the folder is a link or damaged, E501 when it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _refuse_links(directory)
        (directory / BLOBS).mkdir(exist_ok=True)
        for key, data in blobs.items():
            if not _holds(directory / BLOBS / key, key):
                atomic_write(directory / BLOBS / key, data)
        # Old setups stay until the lines that refer to them are replaced, so that a crash in between loses nothing.
        old = read_manifest(directory) if (directory / MANIFEST).exists() else {}
        body = b"".join(lines)
        atomic_write(directory / MANIFEST, manifest_text(old | setups))
        atomic_write(directory / LINES, body + end_line(body))
        if old.keys() - setups.keys():
            atomic_write(directory / MANIFEST, manifest_text(setups))
        for path in (directory / BLOBS).iterdir():
            if _BLOB_NAME.fullmatch(path.name) and path.name not in blobs and path.is_file():
                path.unlink()
    except OSError as error:
        what = f"the cassette cannot be written: {error.strerror or error}"
        raise NamepinError("E501", what, where=str(directory), mend="name a folder you can write to") from error


@contextmanager
def hold_lock(directory: Path) -> Iterator[None]:
    """Hold the lock of a cassette: one process at a time changes it, and others wait.

    Raises:
        NamepinError: E401 when the lock file is a link, E501 when it cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _refuse_links(directory)
        handle = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        what = f"the cassette cannot be written: {error.strerror or error}"
        raise NamepinError("E501", what, where=str(directory), mend="name a folder you can write to") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read_bytes(path: Path) -> bytes:
    """A file of the cassette.

    Raises:
        NamepinError: E401 when it is not an ordinary file, or cannot be read.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            raise file_error(path, "it is a link, or not a file", "put the file itself there")
        return path.read_bytes()
    except OSError as error:
        what = f"not a cassette: {path.name} cannot be read"
        mend = "name a folder that `namepin extract --record` has written"
        raise NamepinError("E401", what, where=str(path), mend=mend) from error


def file_error(path: Path, what: str, mend: str = "record it again") -> NamepinError:
    """E401 for a damaged cassette."""
    return NamepinError("E401", f"the cassette is damaged: {what}", where=str(path), mend=mend)


def _holds(path: Path, key: str) -> bool:
    """Whether the blob is there already."""
    try:
        return stat.S_ISREG(path.lstat().st_mode) and hashlib.sha256(path.read_bytes()).hexdigest() == key
    except OSError:
        return False


def manifest_text(setups: Json) -> str:
    """The manifest of these setups."""
    manifest = {"format": FORMAT, "setups": setups}
    return dump_json(manifest, indent=1, sort_keys=True) + "\n"


def _refuse_links(directory: Path) -> None:
    """Refuse links, so that nothing outside the folder is written or read."""
    for name in (MANIFEST, LINES, BLOBS, LOCK):
        if (directory / name).is_symlink():
            raise file_error(directory / name, "it is a link", "replace the link by its target, or name another folder")
