"""Posts that come again (retweets, reposts): the same text with the same picture is worked on once in a run."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from agent.posts import Ready
from tools.base import digest
from tools.types import Extraction

MOST = 4096
"""Posts remembered, the last used ones; with masks about 10 KB each."""


class Known:
    """What the last posts came to, by text, tokens and the picture's bytes. For one event loop.

    Only what went well is used again: a post that met a server while it was down does not speak for the others.

    Attributes:
        saved: posts that needed no work of their own.
    """

    def __init__(self, most: int = MOST) -> None:
        self.most, self.saved = most, 0
        self._kept: OrderedDict[str, asyncio.Future[Extraction | None]] = OrderedDict()

    async def extraction(self, ready: Ready, work: Callable[[Ready], Awaitable[Extraction]]) -> Extraction:
        """What an equal post came to, waited for where it is still on its way; else what `work` makes of this one.

        Raises:
            Exception: whatever `work` raises.
        """
        key = _key(ready)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            before = await asyncio.shield(kept)
            if before is not None:
                self.saved += 1
                post = ready.post
                return before.model_copy(update={"id": post.id, "extra": dict(post.extra) or None, "timings_ms": {}})
            return await work(ready)
        coming = self._kept[key] = asyncio.get_running_loop().create_future()
        while len(self._kept) > self.most:
            self._kept.popitem(last=False)
        good = None
        try:
            found = await work(ready)
            good = found if found.status == "ok" else None
            return found
        finally:
            coming.set_result(good)
            if good is None and self._kept.get(key) is coming:
                del self._kept[key]


def _key(ready: Ready) -> str:
    post, image = ready.post, ready.image
    warned = [notice.model_dump(mode="json") for notice in ready.notices]
    return digest([post.text, list(post.tokens) if post.tokens else None, image.sha256 if image else None, warned])
