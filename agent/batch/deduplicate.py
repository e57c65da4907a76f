"""Repeated posts (retweets, reposts): the same text with the same picture is processed once.

Within a run this holds for the most recent posts. Across runs it needs the results cached on disk.
"""

import asyncio
import sys
import zlib
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from cachetools import LRUCache
from pydantic import ValidationError

from namepin.agent.api import Namepin
from namepin.agent.config.build import policy
from namepin.agent.posts import Ready
from namepin.graphs.context import Context
from namepin.tools.base import digest
from namepin.tools.caching.disk import DiskCache, default_cache_dir
from namepin.tools.types import Extraction, Frozen, Notice

MOST = 4096
"""Number of remembered posts, the most recently used ones; packed, each takes about 1 KB, or more with masks."""
_TOGETHER = 64
"""Number of results per disk transaction; a killed run has them in its output, not in the cache."""


class PostKey(Frozen):
    """Everything in a post that its result depends on, except its id."""

    text: str
    tokens: tuple[str, ...] | None
    picture: str | None
    """The sha256 of the key's bytes."""
    notices: tuple[Notice, ...]

    @classmethod
    def of(cls, ready: Ready) -> "PostKey":
        """The key of this post."""
        image = ready.image.sha256 if ready.image else None
        return cls(text=ready.post.text, tokens=ready.post.tokens, picture=image, notices=ready.notices)


class ResultCache:
    """Results of earlier runs on disk, safe for several processes. For one event loop.

    Args:
        cache: the disk cache.
        setup: key of everything besides the post that affects a result.
    """

    def __init__(self, cache: DiskCache, setup: str) -> None:
        self._cache, self._setup = cache, setup
        self._fresh: list[tuple[PostKey, str]] = []
        self._disk = ThreadPoolExecutor(1, "kept")

    @classmethod
    def of(cls, pin: Namepin) -> "ResultCache | None":
        """The cache of a profile; None if the profile has no cache."""
        chosen = pin.settings.batch
        if not chosen.cache:
            return None
        torch = sys.modules.get("torch")
        setup = {
            "result": Context(pin.calls, policy=policy(pin.settings)).fingerprint(pin.graph.name),
            "unfilled": sorted(pin.settings.requested),
            "unused": [notice.model_dump(mode="json") for notice in pin.unused],
            # Everything that can change a score's last bits on one machine.
            "together": getattr(pin.calls, "most", 1),
            "threads": torch.get_num_threads() if torch else 0,
        }
        folder = chosen.cache_dir or default_cache_dir() / "posts"
        return cls(DiskCache(folder, chosen.cache_mb * 2**20), digest(setup))

    async def get(self, asked: PostKey) -> Extraction | None:
        """The result of an equal post; None if it is missing or unreadable."""
        found = await asyncio.get_running_loop().run_in_executor(self._disk, self._cache.get, self._setup, asked)
        if found is None:
            return None
        try:
            return Extraction.model_validate_json(found)
        except ValidationError:
            return None

    def put(self, asked: PostKey, result: Extraction) -> None:
        """Store a result soon."""
        plain = result.model_copy(update={"id": "", "extra": None, "timings_ms": {}, "usage": None})
        self._fresh.append((asked, plain.to_json()))
        if len(self._fresh) >= _TOGETHER:
            self._write()

    def close(self) -> None:
        """Write everything to the disk."""
        if self._fresh:
            self._write()
        self._disk.shutdown()

    def _write(self) -> None:
        self._disk.submit(self._cache.put_many, self._setup, self._fresh)
        self._fresh = []


class Deduplicator:
    """Results of posts by text, tokens and the picture's bytes. For one event loop.

    Only complete results are reused: a post whose server was down does not affect equal posts.

    Args:
        most: number of remembered posts.
        kept: results of earlier runs.

    Attributes:
        saved: number of posts that reused a result.
    """

    def __init__(self, most: int = MOST, kept: ResultCache | None = None) -> None:
        self.kept, self.saved = kept, 0
        self._recent: LRUCache[str, asyncio.Future[bytes | None]] = LRUCache(most)

    async def extraction(self, ready: Ready, work: Callable[[Ready], Awaitable[Extraction]]) -> Extraction:
        """The result of an equal post, even if that post is still in progress; else the result of `work`.

        Raises:
            Exception: any error of `work`.
        """
        asked = PostKey.of(ready)
        key = digest(asked.model_dump(mode="json"))
        recent = self._recent.get(key)
        if recent is not None:
            before = await asyncio.shield(recent)
            return await work(ready) if before is None else self._again(_unpack(before), ready)
        coming = self._recent[key] = asyncio.get_running_loop().create_future()
        good = None
        try:
            good = await self.kept.get(asked) if self.kept else None
            if good is not None:
                return self._again(good, ready)
            found = await work(ready)
            if found.status == "ok":
                good = found
                if self.kept:
                    self.kept.put(asked, found)
            return found
        finally:
            coming.set_result(None if good is None else _pack(good))
            if good is None and self._recent.get(key) is coming:
                del self._recent[key]

    def close(self) -> None:
        """Write all stored results to the disk."""
        if self.kept:
            self.kept.close()

    def _again(self, before: Extraction, ready: Ready) -> Extraction:
        self.saved += 1
        post = ready.post
        return before.model_copy(
            update={"id": post.id, "extra": dict(post.extra) or None, "timings_ms": {}, "usage": None}
        )


def _pack(extraction: Extraction) -> bytes:
    """Pack an extraction: one of a few names takes 15 KB as objects, and less than 1 KB packed."""
    return zlib.compress(extraction.model_dump_json().encode(), 1)


def _unpack(packed: bytes) -> Extraction:
    return Extraction.model_validate_json(zlib.decompress(packed))
