"""The files of a batch job: a table of posts as JSON lines or CSV, its pictures, or a ZIP with all of them.

Every file comes from a stranger. Nothing is written under a name of theirs: names only look pictures up in memory. A
ZIP is bounded in entries and in unpacked bytes, which are counted while they are read, whatever its directory claims.
"""

import io
import posixpath
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from namepin.agent.posts import make_post
from namepin.agent.render.view import error_sentences, printable, short
from namepin.agent.server.bodies import MAX_PARTS, is_intricate
from namepin.agent.server.jobs import JobPost, JobSource, Skipped
from namepin.agent.server.rest import PostBody, picture_of_body
from namepin.tools.csv_rows import read_csv_rows
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import check_image
from namepin.tools.jsonl import Line, read_lines

MAX_FILES = 20_000
"""Largest number of files at once, and of entries of a ZIP."""
_MAX_TOLD = 1000
"""Number of skipped lines whose reasons are stored; the others are only counted."""

_TABLES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
_PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif")
_ENTRY, _ZIP = b"PK\x01\x02", (b"PK\x03\x04", b"PK\x05\x06")
_OWN = ("id", "text", "tokens", "image", "image_url")


@dataclass(frozen=True)
class UploadedFile:
    """A file by the name that its sender gave it, which is never used as a path on this machine."""

    name: str
    data: bytes


@dataclass(frozen=True)
class UploadBounds:
    """Bounds of one job's files.

    Attributes:
        posts: largest number of posts.
        unpacked: largest total size in bytes of the files of a ZIP.
        urls: whether a picture may be named by its address.
    """

    posts: int
    unpacked: int
    urls: bool = False


@dataclass
class _Reading:
    """The posts so far, and the lines that are no posts."""

    bounds: UploadBounds
    pictures: Mapping[str, bytes]
    bare: Mapping[str, bytes]
    several: bool
    posts: list[JobPost] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    count: int = 0
    first: NamepinError | None = None
    seen: set[str] = field(default_factory=set)

    def skip(self, where: str, error: NamepinError) -> None:
        self.count += 1
        where = short(where, 200)
        self.first = self.first or NamepinError(error.code, f"{where}: {error.what}", mend=error.mend)
        if len(self.skipped) < _MAX_TOLD:
            self.skipped.append(Skipped(where=where, message=short(error_sentences(error), 500)))


def read_upload(files: Sequence[UploadedFile], bounds: UploadBounds) -> tuple[list[JobPost], JobSource]:
    """The posts of a job's files. A line that is not a post is reported, and the others are read.

    Args:
        files: the files, in any order.
        bounds: their bounds.

    Raises:
        NamepinError: E104 for files without posts and for a ZIP that cannot be opened; the first line's error where no
            line is a post; E108 beyond a bound.
    """
    if len(files) > MAX_FILES:
        raise NamepinError("E108", f"at most {MAX_FILES:,} files at once", mend="split them into several jobs")
    unpacked: list[UploadedFile] = []
    odd: list[tuple[str, NamepinError]] = []
    for file in files:
        if file.data.startswith(_ZIP):
            unpacked += _unpack(file, bounds.unpacked, odd)
        else:
            unpacked.append(file)
    tables, pictures = [], {}
    for file in unpacked:
        if _is_table(file, alone=len(unpacked) == 1):
            tables.append(file)
        else:
            pictures[_normal(file.name)] = file.data
    named = Counter(map(posixpath.basename, pictures))
    bare = {posixpath.basename(path): data for path, data in pictures.items() if named[posixpath.basename(path)] == 1}
    reading = _Reading(bounds, pictures, bare, several=len(tables) > 1)
    for where, error in odd:
        reading.skip(where, error)
    for table in tables:
        _read_table(table, reading)
    if not reading.posts:
        raise reading.first or NamepinError(
            "E104",
            "there are no posts in these files",
            mend='add a table with one post a line: {"id": "a", "text": "..."}',
        )
    source = JobSource(
        name=_name(files), places=tuple(reading.places), skipped=tuple(reading.skipped), skipped_count=reading.count
    )
    return reading.posts, source


def _name(files: Sequence[UploadedFile]) -> str:
    """A name for the job: its table's or ZIP's, and the number of other files."""
    first = next((f for f in files if not f.name.lower().endswith(_PICTURES)), files[0])
    more = len(files) - 1
    return short(posixpath.basename(first.name) or "posts", 100) + (f" and {more} more" if more else "")


def _is_table(file: UploadedFile, alone: bool) -> bool:
    name = file.name.lower()
    return name.endswith(_TABLES) or (alone and not name.endswith(_PICTURES))


def _normal(name: str) -> str:
    return posixpath.normpath("/" + name.replace("\\", "/")).lstrip("/")


def _unpack(file: UploadedFile, most: int, odd: list[tuple[str, NamepinError]]) -> Iterator[UploadedFile]:
    """The files of a ZIP, except hidden ones. Links and files in rare forms are reported and left out.

    Raises:
        NamepinError: E104 for a damaged ZIP, E108 beyond the bounds.
    """
    if file.data.count(_ENTRY) > MAX_FILES:  # before the directory is read, which takes memory for each entry
        raise NamepinError("E108", f"a ZIP has at most {MAX_FILES:,} files", mend="split it into several jobs")
    try:
        archive = zipfile.ZipFile(io.BytesIO(file.data))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise NamepinError("E104", "the ZIP is damaged", where=short(file.name, 100), mend="pack it again") from error
    left = most
    with archive:
        for entry in archive.infolist():
            name = entry.filename.replace("\\", "/")
            if entry.is_dir() or name.startswith("__MACOSX/") or posixpath.basename(name).startswith("."):
                continue
            try:
                data = _entry_data(archive, entry, left)
            except NamepinError as error:
                odd.append((name, error))
                continue
            left -= len(data)
            if left < 0:
                raise NamepinError(
                    "E108",
                    f"the files of a ZIP hold at most {most // 2**20} MB together",
                    mend="split it into several jobs",
                )
            yield UploadedFile(name, data)


def _entry_data(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, left: int) -> bytes:
    """An entry's bytes, at most one more than `left`.

    Raises:
        NamepinError: E104 for a link, an encrypted entry, a rare compression or damage.
    """
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise NamepinError("E104", "a link, not a file", mend="pack the file itself")
    if entry.flag_bits & 1:
        raise NamepinError("E104", "it is encrypted", mend="pack it without a password")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise NamepinError("E104", "its compression is not supported", mend="pack it with the usual one, Deflate")
    try:
        with archive.open(entry) as stream:
            return stream.read(left + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise NamepinError("E104", "it is damaged", mend="pack it again") from error


def _read_table(table: UploadedFile, reading: _Reading) -> None:
    prefix = f"{posixpath.basename(table.name)}, " if reading.several else ""
    for number, row in _rows(table):
        where = f"{prefix}line {number}"
        if len(reading.posts) == reading.bounds.posts:
            raise NamepinError("E108", f"a job has at most {reading.bounds.posts:,} posts", mend="split the file")
        try:
            if isinstance(row, NamepinError):
                raise row
            post = _job_post(row, number, table.name, reading)
        except NamepinError as error:
            reading.skip(where, error)
            continue
        reading.posts.append(post)
        reading.places.append(where)


def _rows(table: UploadedFile) -> Iterator[tuple[int, dict[str, Any] | NamepinError]]:
    """The rows of a table, each with its line's number, or the reason why it cannot be read."""
    if table.name.lower().endswith((".csv", ".tsv")):
        try:
            yield from read_csv_rows(io.BytesIO(table.data))
        except NamepinError as error:
            yield 1, error
        return
    for line in read_lines(table.data):
        try:
            yield line.number, _object(line)
        except NamepinError as error:
            yield line.number, error


def _object(line: Line) -> dict[str, Any]:
    if is_intricate(line.data):
        raise NamepinError("E108", f"a post has at most {MAX_PARTS:,} parts")
    try:
        return line.parse_object()
    except ValueError as error:
        raise NamepinError("E103", str(error), mend='a post is {"id": "a", "text": "..."}') from error


def _job_post(row: dict[str, Any], number: int, table: str, reading: _Reading) -> JobPost:
    """A row's post with its picture.

    Raises:
        NamepinError: E10x for a row that is not a post or has an id twice, E12x for its picture.
    """
    own = {key: row[key] for key in _OWN if key in row}
    extra = {key: value for key, value in row.items() if key not in own}
    if "image_path" in extra and "image" not in own:
        raise NamepinError("E103", "there is no field image_path", mend="rename it to image")
    own.setdefault("id", _own_id(number, table, reading))
    named = own.get("image")
    picture = _named_picture(named, table, reading) if isinstance(named, str) else None
    if picture is not None:
        del own["image"]
    try:
        body = PostBody.model_validate(own)
    except ValidationError as error:
        first = error.errors()[0]
        where = printable(".".join(map(str, first["loc"])))
        raise NamepinError("E103", f"the field {where}: {first['msg']}", mend="see the form of a post") from error
    if body.text is None and body.tokens is None:
        raise NamepinError("E103", "it has no text", mend="give each post a text")
    post = body.model_dump(include={"id", "text", "tokens"}, exclude_none=True) | ({"extra": extra} if extra else {})
    make_post(post)
    if body.id in reading.seen:
        raise NamepinError("E104", f"the id {printable(body.id)!r} occurs twice", mend="give each post its own id")
    picture = picture if picture is not None else picture_of_body(body, reading.bounds.urls)
    if picture is not None:
        check_image(picture)
    reading.seen.add(body.id)
    return JobPost(row=post, picture=picture)


def _own_id(number: int, table: str, reading: _Reading) -> str:
    return f"{posixpath.basename(table)[:100]}-{number}" if reading.several else f"line-{number}"


def _named_picture(name: str, table: str, reading: _Reading) -> bytes | None:
    """The picture of this name: beside the table, anywhere by its whole path, or by its bare name if only one has it.

    None where the value is no name, but may be a picture as base64.

    Raises:
        NamepinError: E120 for the name of a picture that is not among the files.
    """
    if len(name) > 1000:
        return None
    beside = _normal(posixpath.join(posixpath.dirname(table.replace("\\", "/")), name))
    for candidate in (beside, _normal(name)):
        if candidate in reading.pictures:
            return reading.pictures[candidate]
    bare = posixpath.basename(_normal(name))
    if bare in reading.bare:
        return reading.bare[bare]
    if name.lower().endswith(_PICTURES):
        raise NamepinError(
            "E120",
            f"its picture {short(name, 80)!r} is not among the files",
            mend="add the picture, or leave its name out",
        )
    return None
