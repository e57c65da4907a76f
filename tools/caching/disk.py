"""A cache of answers on disk, shared by runs and processes."""

import logging
import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import platformdirs
from pydantic import BaseModel

from namepin.tools.base import canonical_json, digest

Outcome = TypeVar("Outcome")

log = logging.getLogger(__name__)

FILE_NAME = "answers.sqlite"


def default_cache_dir() -> Path:
    """NAMEPIN_CACHE_DIR, or the platform's cache folder of this user."""
    return Path(os.environ.get("NAMEPIN_CACHE_DIR") or platformdirs.user_cache_dir("namepin", appauthor=False))


class DiskCache:
    """A bounded map from (tool's fingerprint, request) to text; the least recently used entries go first.

    It stores digests of the requests, not the requests. It is one SQLite file, opened for each call, and so safe for
    several threads and processes, also on network folders. An unusable file never fails a run: `get` finds nothing,
    `put` does nothing, and one log line says so.

    Args:
        folder: the cache's folder, created if missing, readable only by this user.
        max_bytes: bound on the total size of the values, in bytes of UTF-8.
    """

    def __init__(self, folder: Path, max_bytes: int = 64 * 2**20) -> None:
        self.path, self.max_bytes = folder / FILE_NAME, max_bytes
        self._warned = False

    def get(self, fingerprint: str, request: BaseModel) -> str | None:
        """The stored value for this request, or None."""
        key = _key(fingerprint, request)

        def look_up(table: sqlite3.Connection) -> str | None:
            row = table.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
            if row is not None:
                table.execute(f"UPDATE answers SET used = {_NEXT} WHERE key = ?", (key,))
            return row and str(row[0])

        return self._transact(look_up)

    def put(self, fingerprint: str, request: BaseModel, value: str) -> None:
        """Store a value and evict the oldest ones if needed. A value larger than the whole cache is not stored."""
        self.put_many(fingerprint, [(request, value)])

    def put_many(self, fingerprint: str, answers: Iterable[tuple[BaseModel, str]]) -> None:
        """Store several values with one write to disk."""
        rows = [(_key(fingerprint, request), value, len(value.encode())) for request, value in answers]

        def store(table: sqlite3.Connection) -> None:
            (total,) = table.execute("SELECT total FROM held").fetchone()
            for key, value, size in rows:
                if size > self.max_bytes:
                    continue
                before = table.execute("SELECT size FROM answers WHERE key = ?", (key,)).fetchone()
                total += size - (before[0] if before else 0)
                statement = f"INSERT OR REPLACE INTO answers (key, value, size, used) VALUES (?, ?, ?, {_NEXT})"
                table.execute(statement, (key, value, size))
            gone = []
            for key, size in table.execute("SELECT key, size FROM answers ORDER BY used"):
                if total <= self.max_bytes:
                    break
                total -= size
                gone.append((key,))
            table.executemany("DELETE FROM answers WHERE key = ?", gone)
            table.execute("UPDATE held SET total = ?", (total,))

        self._transact(store)

    def _transact(self, action: Callable[[sqlite3.Connection], Outcome | None]) -> Outcome | None:
        """Run `action` in one transaction; None where the file cannot be used."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=10, isolation_level=None)) as table:
                table.execute("BEGIN IMMEDIATE")
                for statement in _SCHEMA:
                    table.execute(statement)
                outcome = action(table)
                table.execute("COMMIT")
                return outcome
        except (sqlite3.Error, OSError) as error:
            if not self._warned:
                self._warned = True
                log.warning("the cache %s cannot be used (%s): answers are not kept; delete the file", self.path, error)
            return None


_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS answers "
    "(key TEXT PRIMARY KEY, value TEXT NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL) WITHOUT ROWID",
    # Covers the newest entry and the oldest ones' sizes, so that neither reads the values.
    "CREATE INDEX IF NOT EXISTS by_use ON answers (used, size)",
    # The sum of the sizes, because adding them up for each answer would take longer and longer.
    "CREATE TABLE IF NOT EXISTS held (total INTEGER NOT NULL)",
    "INSERT INTO held SELECT (SELECT COALESCE(SUM(size), 0) FROM answers) WHERE NOT EXISTS (SELECT 1 FROM held)",
)
_NEXT = "(SELECT COALESCE(MAX(used), 0) + 1 FROM answers)"


def _key(fingerprint: str, request: BaseModel) -> str:
    return digest([fingerprint, canonical_json(request)])
