"""Repeated posts (retweets, reposts): the same text with the same picture is processed once.

It holds within `REACH` rows, also if the run was interrupted between them. Across runs it needs the results cached on
disk.
"""

import asyncio
import sys
import zlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pydantic import ValidationError

from namepin.agent.api import Namepin
from namepin.agent.config.build import policy
from namepin.agent.posts import Ready
from namepin.graphs.context import Context
from namepin.graphs.step import DEGRADING
from namepin.tools.base import digest
from namepin.tools.caching.disk import DiskCache, default_cache_dir
from namepin.tools.types import Extraction, Frozen, Notice

REACH = 4096
"""Largest number of rows between a post and an equal one whose result it reuses; packed, a result takes about 1 KB."""
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
            "together": 1,  # see `posts_per_group`
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


@dataclass(frozen=True)
class Claim:
    """A post's part in the reuse of results.

    Attributes:
        key: what its result depends on; None for a post that neither gives nor takes a result.
        earlier: the coming result of an equal earlier post, packed; None if it is not complete.
        own: where later equal posts wait for this post's result.
    """

    key: PostKey | None
    earlier: "asyncio.Future[bytes | None] | None" = None
    own: "asyncio.Future[bytes | None] | None" = None


class Deduplicator:
    """Results of posts by text, tokens and the picture's bytes. For one event loop.

    Only complete results are reused: a post whose server was down does not affect equal posts. Which post reuses which
    result depends only on the rows before it, also after a restart (`seed`).

    Args:
        reach: largest number of rows between equal posts.
        kept: results of earlier runs.

    Attributes:
        saved: number of posts that reused a result.
    """

    def __init__(self, reach: int = REACH, kept: ResultCache | None = None) -> None:
        self.kept, self.saved = kept, 0
        self._reach = reach
        self._recent: OrderedDict[str, tuple[int, bytes | None | asyncio.Future[bytes | None]]] = OrderedDict()

    def claim(self, ready: Ready, row: int) -> Claim:
        """Decide whether the post of this row reuses a result. Call it in the order of the rows."""
        if any(notice.code in DEGRADING for notice in ready.notices):
            return Claim(None)
        asked, own = PostKey.of(ready), asyncio.get_running_loop().create_future()
        key = digest(asked.model_dump(mode="json"))
        _, before = self._recent.get(key, (0, None)) if self._recall(key, row) else (0, own)
        self._remember(key, row, before)
        if before is own:
            return Claim(asked, own=own)
        if not isinstance(before, asyncio.Future):
            known = before
            before = asyncio.get_running_loop().create_future()
            before.set_result(known)
        return Claim(asked, earlier=before)

    def seed(self, bare: Ready, row: int, picture: str | None, line: bytes | None) -> None:
        """Remember a finished row of an earlier run.

        Args:
            bare: its post without its picture.
            row: its number.
            picture: the sha256 of its picture.
            line: its prediction; None if that is not to be reused.
        """
        key = digest(PostKey.of(bare).model_copy(update={"picture": picture}).model_dump(mode="json"))
        self._remember(key, row, None if line is None else zlib.compress(line, 1))

    async def extraction(
        self, claim: Claim, ready: Ready, work: Callable[[Ready], Awaitable[Extraction]]
    ) -> Extraction:
        """The result of an equal post, even if that post is still in progress; else the result of `work`.

        Raises:
            Exception: any error of `work`.
        """
        if claim.earlier is not None:
            before = await asyncio.shield(claim.earlier)
            return await work(ready) if before is None else self._again(_unpack(before), ready)
        if claim.key is None or claim.own is None:
            return await work(ready)
        good = None
        try:
            good = await self.kept.get(claim.key) if self.kept else None
            if good is not None:
                return self._again(good, ready)
            found = await work(ready)
            if found.status == "ok":
                good = found
                if self.kept:
                    self.kept.put(claim.key, found)
            return found
        finally:
            claim.own.set_result(None if good is None else _pack(good))

    def close(self) -> None:
        """Write all stored results to the disk."""
        if self.kept:
            self.kept.close()

    def _recall(self, key: str, row: int) -> bool:
        """Whether an equal post is near enough. Forgets the posts that no later row can reach."""
        while self._recent and next(iter(self._recent.values()))[0] < row - self._reach:
            self._recent.popitem(last=False)
        return key in self._recent

    def _remember(self, key: str, row: int, result: "bytes | None | asyncio.Future[bytes | None]") -> None:
        self._recent[key] = (row, result)
        self._recent.move_to_end(key)

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
