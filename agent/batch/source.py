"""The input of a batch: a file or a split of a data set, one row after the other."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from namepin.agent.batch.input_files import InputFile, plain
from namepin.agent.posts import make_post
from namepin.evals.datasets import POSTS
from namepin.tools.errors import NamepinError
from namepin.tools.types import Post

_OWN = ("id", "text", "tokens", "image", "extra")
_RESULT = ("entities", "status", "warnings", "fingerprint", "timings_ms")
"""Further fields of an `Extraction`."""


@dataclass(frozen=True)
class Row:
    """One row of the input.

    Attributes:
        number: number of the row from 1, without blank lines; the results are in this order.
        where: file and line, for messages.
        post: the post; None if the row is not a post.
        given: the row's entities, for the graph `masks`.
        picture: the picture's bytes, if the row itself holds them.
        error: the reason why the row is not a post.
    """

    number: int
    where: str
    post: Post | None
    given: tuple[dict[str, Any], ...] = ()
    error: NamepinError | None = None
    picture: bytes | None = None


class Source:
    """An input, named as on the command line: a file (`namepin.agent.batch.input_files`), or DATASET:ROOT:SPLIT.

    Args:
        name: name of the input.
        predictions: whether rows are predictions with `entities`.

    Raises:
        NamepinError: E104 when it is missing or its kind is not supported.
    """

    def __init__(self, name: str, *, predictions: bool = False) -> None:
        self.name, self._predictions = name, predictions
        dataset, _, rest = name.partition(":")
        root, _, split = rest.rpartition(":")
        self._dataset = (dataset, Path(root), split) if dataset in POSTS and root and split else None
        self.path = Path(name)
        self._hashed: tuple[tuple[int, ...], str] | None = None
        if self._dataset is not None:
            return
        if not self.path.is_file():
            mend = "give a file of JSONL, CSV or Parquet, or a data set as gmner:ROOT:SPLIT"
            raise NamepinError("E104", "there is no such input", where=name, mend=mend)
        self._file = InputFile(self.path)

    def check(self) -> None:
        """Read a data set through, once. Call it before slow work; faults of a file's rows are results.

        Raises:
            NamepinError: E13x when the data set cannot be read.
        """
        if self._dataset:
            self._read_through  # noqa: B018  # cached

    def sha256(self) -> str:
        """The sha256 of the file's bytes or, for a data set, of its posts."""
        if self._dataset:
            return self._read_through[0]
        with self.path.open("rb") as file:
            self._hashed = (_stamp(self.path), hashlib.file_digest(file, "sha256").hexdigest())
        return self._hashed[1]

    def has_changed(self) -> bool:
        """Whether the file has changed since `sha256` was computed; always False for a data set."""
        if self._hashed is None or _stamp(self.path) == self._hashed[0]:
            return False
        before = self._hashed[1]
        return not self.path.is_file() or self.sha256() != before

    @cached_property
    def count(self) -> int:
        """Rows; for text, lines including blank ones."""
        return self._read_through[1] if self._dataset else self._file.count()

    def rows(self) -> Iterator[Row]:
        """Every row, in order. Rows that are not posts, and rows with repeated ids, carry their error."""
        if self._dataset:
            yield from self._of_dataset()
            return
        seen = SeenIds()
        for number, (where, raw) in enumerate(self._file.rows(), 1):
            row = self._row(number, where, raw)
            if row.post is not None and not seen.add(row.post.id):
                what = f"post id {row.post.id!r} occurs twice"
                row = Row(number, where, None, error=NamepinError("E104", what, where=where))
            yield row

    def _row(self, number: int, where: str, raw: dict[str, Any] | NamepinError) -> Row:
        try:
            if isinstance(raw, NamepinError):
                raise raw
            row, given = dict(raw), ()
            if self._predictions:
                given = row.pop("entities", None) or ()
            picture = _take_picture(row)
            if _is_prediction(raw) or (self._predictions and given):
                row = _of_prediction(row)
            own = {key: row.pop(key) for key in _OWN if key in row}
            extra = own.pop("extra", None) or {}
            rest = {key: plain(value) for key, value in row.items()}
            own["extra"] = {**extra, **rest} if isinstance(extra, dict) else extra  # `make_post` refuses others
            post = make_post(own, where)
            if post.image:
                post = post.model_copy(update={"image": str(self.path.parent / post.image)})
            return Row(number, where, post, tuple(given) if isinstance(given, list | tuple) else (), None, picture)
        except NamepinError as error:
            return Row(number, where, None, error=error)

    def _of_dataset(self) -> Iterator[Row]:
        assert self._dataset is not None
        name, root, split = self._dataset
        seen = SeenIds()
        for number, (where, post) in enumerate(POSTS[name](root, split), 1):
            if not seen.add(post.id):
                raise NamepinError("E131", f"post id {post.id!r} occurs twice", where=where, mend="fix the file")
            yield Row(number, where, post)

    @cached_property
    def _read_through(self) -> tuple[str, int]:
        """A data set's sha256 and posts. Its faults are reported here, before the work begins."""
        digest, count = hashlib.sha256(), 0
        for row in self.rows():
            assert row.post is not None
            digest.update(f"{row.post.id}\0{row.post.text}\0".encode("utf-8", "surrogatepass"))
            count += 1
        if not count:
            raise NamepinError("E139", "the split holds no post", where=self.name, mend="check the root and the split")
        return digest.hexdigest(), count


def _stamp(path: Path) -> tuple[int, ...]:
    """Properties that change when a file is written or replaced."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _take_picture(row: dict[str, Any]) -> bytes | None:
    """The bytes in a row's `image`, in the form of Hugging Face's data sets: `{bytes, path}`. A bare path stays."""
    image = row.get("image")
    if isinstance(image, bytes):
        row.pop("image")
        return image
    if not isinstance(image, dict) or not image or image.keys() - {"bytes", "path"}:
        return None
    row["image"] = None if image.get("bytes") else image.get("path")
    data = image.get("bytes")
    return data if isinstance(data, bytes) and data else None


def _is_prediction(row: Mapping[str, Any]) -> bool:
    """Whether the row is an `Extraction` used as input."""
    kinds = {"entities": list, "warnings": list, "status": str, "fingerprint": str, "tokens": list}
    return all(isinstance(row.get(key), kind) for key, kind in kinds.items())


def _of_prediction(row: dict[str, Any]) -> dict[str, Any]:
    """A prediction as a post. An `Extraction` does not name a picture's file, and its tokens are a tweet's."""
    own = {key: value for key, value in row.items() if key not in _RESULT}
    if isinstance(own.get("image"), dict):
        own.pop("image")
    tokens = own.get("tokens")
    if isinstance(tokens, list) and own.get("text") not in (None, " ".join(map(str, tokens))):
        own.pop("tokens")
    return own


class SeenIds:
    """The ids so far, in 8 bytes each: a million ids take 8 MB instead of the 100 MB of a set of strings."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=np.uint64)
        self._recent: set[int] = set()

    def add(self, name: str) -> bool:
        """Add an id; returns False for a repeated id."""
        key = int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
        place = int(np.searchsorted(self._sorted, np.uint64(key)))
        if key in self._recent or (place < len(self._sorted) and int(self._sorted[place]) == key):
            return False
        self._recent.add(key)
        if len(self._recent) >= 65_536:
            fresh = np.fromiter(self._recent, dtype=np.uint64, count=len(self._recent))
            self._sorted = np.sort(np.concatenate([self._sorted, fresh]))
            self._recent.clear()
        return True
