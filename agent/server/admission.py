"""Admission control: bounds on posts that compute, that wait, and that call servers. Further requests get 429."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager, nullcontext
from typing import TypeVar

from namepin.agent.server.access import LOCAL, ClientGone, TooMany
from namepin.graphs.calls import TURN, Turn
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import check_image
from namepin.tools.llm.permission import COMPUTING, THREADS

Result = TypeVar("Result")


class Admission:
    """Turns for one profile. A turn is for this machine's cores; a post that waits for a model's server releases it.

    So posts that need no server, or whose answers are cached, never queue behind posts that wait for a slow server. For
    use within one event loop.

    Args:
        at_once: number of posts that compute at a time.
        waiting: number of posts that may wait for their first turn.
        asking: number of posts that may wait for servers. A post counts from its first request to its end, so that it
            is never refused after paid answers.

    One token's posts take at most half of the places to wait and to ask, so that other tokens have room.
    """

    def __init__(self, at_once: int, waiting: int, asking: int) -> None:
        self._free = self._at_once = at_once
        self._most_waiting, self._most_asking = waiting, asking
        self._coming: deque[asyncio.Future[None]] = deque()
        self._returning: deque[asyncio.Future[None]] = deque()
        # malloc's arenas keep memory of each thread's largest post, so there are no more threads than useful.
        self._computing = ThreadPoolExecutor(at_once, COMPUTING)
        self._elsewhere = ThreadPoolExecutor(asking, THREADS)
        self._waiting_of, self._asking_of = Counter[str](), Counter[str]()
        self.asking = 0

    @property
    def running(self) -> int:
        """Number of posts that have a turn."""
        return self._at_once - self._free

    @property
    def waiting(self) -> int:
        """Number of posts that wait for their first turn."""
        return len(self._coming)

    @asynccontextmanager
    async def turn(self, owner: str = LOCAL, gone: Callable[[], Awaitable[bool]] | None = None) -> AsyncIterator[Turn]:
        """Wait for a turn and hold it while the block runs, except while its tools wait for a server.

        Args:
            owner: the token's owner; on a server without tokens, the owner has all places.
            gone: tells after the wait whether the client has gone. Clients that give up and ask again would otherwise
                fill the queue with posts that nobody reads, and get no answer at all.

        Raises:
            ClientGone: nobody waits for the post any more.
            TooMany: at once, if too many posts wait already; within the block, if too many call servers already.
        """
        if not self._free:
            if self.waiting >= self._most_waiting or self._waiting_of[owner] >= _share(owner, self._most_waiting):
                raise TooMany("the server is busy", 1 + self.waiting / 4)
            self._waiting_of[owner] += 1
            try:
                await self._take(self._coming)
            finally:
                self._waiting_of[owner] -= 1
            await self._pass_on_if(gone)
        else:
            await self._take(self._coming)
        turn = _Turn(self, owner)
        # No reset with a token, because a stream may end in another context than its first.
        TURN.set(turn)
        try:
            yield turn
        finally:
            TURN.set(None)
            turn.end()

    def close(self) -> None:
        """Begin no more work."""
        for threads in (self._computing, self._elsewhere):
            threads.shutdown(wait=False, cancel_futures=True)

    def _begin_asking(self, owner: str) -> None:
        if self.asking >= self._most_asking or self._asking_of[owner] >= _share(owner, self._most_asking):
            raise TooMany("too many posts wait for the language model", 1 + self.asking / 4)
        self._asking_of[owner] += 1
        self.asking += 1

    def _end_asking(self, owner: str) -> None:
        self._asking_of[owner] -= 1
        self.asking -= 1

    async def _take(self, line: deque[asyncio.Future[None]]) -> None:
        if self._free:
            self._free -= 1
            return
        place = asyncio.get_running_loop().create_future()
        line.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():  # the turn arrived at the same moment
                self._give()
            elif place in line:
                line.remove(place)
            raise

    async def _pass_on_if(self, gone: Callable[[], Awaitable[bool]] | None) -> None:
        """Pass the turn on, and raise `ClientGone`, if the client has gone."""
        try:
            if gone is None or not await gone():
                return
        except BaseException:
            self._give()
            raise
        self._give()
        raise ClientGone

    def _give(self) -> None:
        """Pass a turn on, first to posts that have begun, since they hold pictures in memory."""
        for line in (self._returning, self._coming):
            while line:
                place = line.popleft()
                if not place.done():
                    place.set_result(None)
                    return
        self._free += 1


def _share(owner: str, places: int) -> int:
    return places if owner == LOCAL else max(1, places // 2)


async def read_in_turn(turn: Turn, picture: bytes | None, max_pixels: int, read: Callable[[], Result]) -> Result:
    """Read a post and its picture in a thread, within its turn.

    Decoding in a process may take long, so other posts have the turn meanwhile.

    Args:
        turn: the post's turn.
        picture: the picture's file.
        max_pixels: largest number of pixels.
        read: function that decodes the picture.
    """
    loop = asyncio.get_running_loop()
    cheap = await loop.run_in_executor(turn.executor, _is_cheap, picture, max_pixels)
    async with nullcontext(turn.executor) if cheap else turn.away() as threads:
        return await loop.run_in_executor(threads, read)


def _is_cheap(picture: bytes | None, max_pixels: int) -> bool:
    try:
        return picture is None or check_image(picture, max_pixels=max_pixels)
    except NamepinError:  # refuse at once
        return True


class _Turn:
    """One post's `graphs.calls.Turn`. Its branches may wait for servers in parallel; it returns with the last one."""

    def __init__(self, admission: Admission, owner: str) -> None:
        self._admission, self._owner = admission, owner
        self._held, self._asked, self._ended, self._questions = True, False, False, 0

    @property
    def executor(self) -> Executor:
        """See `namepin.graphs.calls.Turn.executor`."""
        return self._admission._computing

    @asynccontextmanager
    async def away(self) -> AsyncIterator[Executor]:
        """See `namepin.graphs.calls.Turn.away`.

        Raises:
            TooMany: too many posts call servers already.
        """
        if not self._asked and not self._ended:
            self._admission._begin_asking(self._owner)
            self._asked = True
        self._questions += 1
        self._let_go()
        try:
            yield self._admission._elsewhere
        except asyncio.CancelledError:
            self._questions -= 1  # no later work needs the turn
            raise
        except Exception:
            await self._back()
            raise
        await self._back()

    def end(self) -> None:
        """Release everything: the post has ended, with any outcome."""
        self._ended = True
        self._let_go()
        if self._asked:
            self._admission._end_asking(self._owner)

    async def _back(self) -> None:
        self._questions -= 1
        if self._questions or self._held:
            return
        await self._admission._take(self._admission._returning)
        if self._questions or self._held or self._ended:  # another branch still waits, or returned earlier
            self._admission._give()
        else:
            self._held = True

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._admission._give()
