"""Posts that come again (retweets, reposts): the same text with the same picture is worked on once.

Within a run that is always so, for the last posts. Across runs it is so where results are kept on disk.
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
"""Posts remembered, the last used ones; packed, about 1 KB each, with masks some more."""
_TOGETHER = 64
"""Results that go to the disk in one transaction; a killed run has them in its output, not in the cache."""


class Asked(Frozen):
    """All of a post that its result depends on, but for its id."""

    text: str
    tokens: tuple[str, ...] | None
    picture: str | None
    """The sha256 of its bytes."""
    notices: tuple[Notice, ...]

    @classmethod
    def of(cls, ready: Ready) -> "Asked":
        """What this post asks."""
        image = ready.image.sha256 if ready.image else None
        return cls(text=ready.post.text, tokens=ready.post.tokens, picture=image, notices=ready.notices)


class ResultCache:
    """What posts came to in earlier runs, on disk, safe for several processes. For one event loop.

    Args:
        cache: where they are.
        setup: of everything but the post that decides a result.
    """

    def __init__(self, cache: DiskCache, setup: str) -> None:
        self._cache, self._setup = cache, setup
        self._fresh: list[tuple[Asked, str]] = []
        self._disk = ThreadPoolExecutor(1, "kept")

    @classmethod
    def of(cls, pin: Namepin) -> "ResultCache | None":
        """Those of a profile; None where it keeps none."""
        chosen = pin.settings.batch
        if not chosen.cache:
            return None
        torch = sys.modules.get("torch")
        setup = {
            "result": Context(pin.calls, policy=policy(pin.settings)).fingerprint(pin.graph.name),
            "unfilled": sorted(pin.settings.requested),
            "unused": [notice.model_dump(mode="json") for notice in pin.unused],
            # What can change a score's last bits on one machine.
            "together": getattr(pin.calls, "most", 1),
            "threads": torch.get_num_threads() if torch else 0,
        }
        folder = chosen.cache_dir or default_cache_dir() / "posts"
        return cls(DiskCache(folder, chosen.cache_mb * 2**20), digest(setup))

    async def get(self, asked: Asked) -> Extraction | None:
        """The result of an equal post; None where there is none, or none that can be read."""
        found = await asyncio.get_running_loop().run_in_executor(self._disk, self._cache.get, self._setup, asked)
        if found is None:
            return None
        try:
            return Extraction.model_validate_json(found)
        except ValidationError:
            return None

    def put(self, asked: Asked, result: Extraction) -> None:
        """Keep a result, soon."""
        plain = result.model_copy(update={"id": "", "extra": None, "timings_ms": {}})
        self._fresh.append((asked, plain.to_json()))
        if len(self._fresh) >= _TOGETHER:
            self._write()

    def close(self) -> None:
        """Have everything on the disk."""
        if self._fresh:
            self._write()
        self._disk.shutdown()

    def _write(self) -> None:
        self._disk.submit(self._cache.put_many, self._setup, self._fresh)
        self._fresh = []


class Deduplicator:
    """What posts came to, by text, tokens and the picture's bytes. For one event loop.

    Only what went well is used again: a post that met a server while it was down does not speak for the others.

    Args:
        most: posts remembered.
        kept: those of earlier runs.

    Attributes:
        saved: posts that needed no work of their own.
    """

    def __init__(self, most: int = MOST, kept: ResultCache | None = None) -> None:
        self.kept, self.saved = kept, 0
        self._recent: LRUCache[str, asyncio.Future[bytes | None]] = LRUCache(most)

    async def extraction(self, ready: Ready, work: Callable[[Ready], Awaitable[Extraction]]) -> Extraction:
        """What an equal post came to, waited for where it is still on its way; else what `work` makes of this one.

        Raises:
            Exception: whatever `work` raises.
        """
        asked = Asked.of(ready)
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
        """Have everything that is kept on the disk."""
        if self.kept:
            self.kept.close()

    def _again(self, before: Extraction, ready: Ready) -> Extraction:
        self.saved += 1
        post = ready.post
        return before.model_copy(update={"id": post.id, "extra": dict(post.extra) or None, "timings_ms": {}})


def _pack(extraction: Extraction) -> bytes:
    """An extraction of a few names takes 15 KB as objects, and less than one like this."""
    return zlib.compress(extraction.model_dump_json().encode(), 1)


def _unpack(packed: bytes) -> Extraction:
    return Extraction.model_validate_json(zlib.decompress(packed))
