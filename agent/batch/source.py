"""Where the posts of a batch come from: JSONL, Parquet, or a split of a data set, one row after the other."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from namepin.agent.posts import make_post
from namepin.evals.datasets import POSTS
from namepin.tools.errors import NamepinError, install_command
from namepin.tools.types import Post

LONGEST_LINE = 2**24
_OWN = ("id", "text", "tokens", "image", "extra")


@dataclass(frozen=True)
class Row:
    """One row of the input.

    Attributes:
        number: from 1, blank lines not counted; the results are in this order.
        where: for people: file and line.
        post: the post; None where the row is none.
        given: what the row says of entities, for the graph `masks`.
        error: why it is none.
    """

    number: int
    where: str
    post: Post | None
    given: tuple[dict[str, Any], ...] = ()
    error: NamepinError | None = None


class Source:
    """An input, named as on the command line: FILE.jsonl, FILE.parquet, or DATASET:ROOT:SPLIT.

    Raises:
        NamepinError: E104 when it is missing or of another kind.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        dataset, _, rest = name.partition(":")
        root, _, split = rest.rpartition(":")
        self._dataset = (dataset, Path(root), split) if dataset in POSTS and root and split else None
        self.path = Path(name)
        if self._dataset is None and not self.path.is_file():
            mend = "give a JSONL or Parquet file, or a data set as gmner:ROOT:SPLIT"
            raise NamepinError("E104", "there is no such input", where=name, mend=mend)

    def sha256(self) -> str:
        """Of the file's bytes; of the posts, for a data set."""
        if self._dataset:
            return self._read_through[0]
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def count(self) -> int:
        """Rows; for JSONL, lines, blank ones too."""
        if self._dataset:
            return self._read_through[1]
        if self.path.suffix == ".parquet":
            with self._parquet_file() as file:
                return int(file.metadata.num_rows)
        with self.path.open("rb") as file:
            return sum(part.count(b"\n") for part in iter(lambda: file.read(2**20), b""))

    def rows(self) -> Iterator[Row]:
        """Every row, in order; rows that are no posts, and ids that came before, carry their error."""
        if self._dataset:
            yield from self._of_dataset()
            return
        seen = SeenIds()
        lines: Iterator[tuple[str, bytes | dict[str, Any]]]
        lines = self._parquet() if self.path.suffix == ".parquet" else self._jsonl()
        for number, (where, raw) in enumerate(lines, 1):
            row = _row(number, where, raw, self.path.parent)
            if row.post is not None and not seen.add(row.post.id):
                what = f"post id {row.post.id!r} comes twice"
                row = Row(number, where, None, error=NamepinError("E104", what, where=where))
            yield row

    def _of_dataset(self) -> Iterator[Row]:
        assert self._dataset is not None
        name, root, split = self._dataset
        seen = SeenIds()
        for number, (where, post) in enumerate(POSTS[name](root, split), 1):
            if not seen.add(post.id):
                raise NamepinError("E131", f"post id {post.id!r} occurs twice", where=where, mend="mend the file")
            yield Row(number, where, post)

    @cached_property
    def _read_through(self) -> tuple[str, int]:
        """A data set's sha256 and posts; what is wrong with it is said here, before any of it is worked on."""
        digest, count = hashlib.sha256(), 0
        for row in self.rows():
            assert row.post is not None
            digest.update(f"{row.post.id}\0{row.post.text}\0".encode("utf-8", "surrogatepass"))
            count += 1
        if not count:
            raise NamepinError("E139", "the split holds no post", where=self.name, mend="check the root and the split")
        return digest.hexdigest(), count

    def _jsonl(self) -> Iterator[tuple[str, bytes | dict[str, Any]]]:
        with self.path.open("rb") as file:
            number = 0
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if line.strip():
                    yield f"{self.path}:{number}", line
                while not line.endswith(b"\n") and (line := file.readline(LONGEST_LINE)):
                    pass  # the rest of a line that is too long is never held

    def _parquet(self) -> Iterator[tuple[str, bytes | dict[str, Any]]]:
        number = 0
        with self._parquet_file() as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{self.path}:{number}", {key: value for key, value in row.items() if value is not None}

    @contextmanager
    def _parquet_file(self) -> Iterator[Any]:
        try:
            from pyarrow import parquet
        except ModuleNotFoundError as error:
            mend = install_command("namepin[scale]")
            raise NamepinError("E301", "Parquet needs the package 'pyarrow'", where=self.name, mend=mend) from error
        try:
            with parquet.ParquetFile(self.path) as file:
                yield file
        except (OSError, ValueError) as error:
            raise NamepinError("E104", f"not a Parquet file: {error}", where=self.name) from error


def _row(number: int, where: str, raw: bytes | dict[str, Any], beside: Path) -> Row:
    try:
        if isinstance(raw, bytes):
            if len(raw) > LONGEST_LINE:
                raise NamepinError("E103", f"a line of more than {LONGEST_LINE} bytes", where=where)
            raw = _parsed(raw, where)
        row = dict(raw)
        given = row.pop("entities", None) or ()
        own: dict[str, Any] = {key: row.pop(key) for key in _OWN if key in row}
        for key in ("status", "warnings", "fingerprint", "timings_ms"):  # of predictions that come back as input
            row.pop(key, None)
        if given:
            own = _of_prediction(own)
        extra = own.pop("extra", None) or {}
        own["extra"] = {**extra, **row} if isinstance(extra, dict) else extra  # anything else `make_post` refuses
        post = make_post(own, where)
        if post.image:
            post = post.model_copy(update={"image": str(beside / post.image)})
        return Row(number, where, post, tuple(given) if isinstance(given, list | tuple) else ())
    except NamepinError as error:
        return Row(number, where, None, error=error)


def _of_prediction(own: dict[str, Any]) -> dict[str, Any]:
    """A prediction's own keys as a post's: an `Extraction` names no file, and its tokens are those of a tweet."""
    if isinstance(own.get("image"), dict):
        own.pop("image")
    tokens = own.get("tokens")
    if isinstance(tokens, list) and own.get("text") not in (None, " ".join(map(str, tokens))):
        own.pop("tokens")
    return own


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise NamepinError("E103", f"not JSON: {error}", where=where, mend="give one JSON object a line") from error
    if not isinstance(row, dict):
        raise NamepinError("E103", "not a JSON object", where=where, mend="give one JSON object a line")
    return row


class SeenIds:
    """Which ids came before, in 8 bytes each: a million ids are 8 MB, not the 100 MB of a set of strings."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=np.uint64)
        self._recent: set[int] = set()

    def add(self, name: str) -> bool:
        """Note an id; false where it came before."""
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
