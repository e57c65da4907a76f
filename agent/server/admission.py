"""How much work is accepted: so many posts at once, so many waiting, and an honest 429 for the rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.server.access import TooMany


class Admission:
    """Turns for one profile: a profile whose tools wait for a slow server does not use up another one's turns.

    Args:
        at_once: posts on their way through the graph at a time.
        waiting: posts that may wait for a turn.
    """

    def __init__(self, at_once: int, waiting: int) -> None:
        self._turns, self._most_waiting = asyncio.Semaphore(at_once), waiting
        self.waiting = self.running = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the block runs.

        Raises:
            TooMany: at once, where too many wait already.
        """
        if self._turns.locked() and self.waiting >= self._most_waiting:
            raise TooMany("the server is busy", 1 + self.waiting / 4)
        self.waiting += 1
        try:
            await self._turns.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._turns.release()
