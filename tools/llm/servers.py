"""The servers of one chat model: whom to ask next, and whom to leave out for a while.

The one with the fewest questions under way is asked. A server that fails too often in a row (three times, or as often
as one question may try) is left out for half a minute, each further time for twice as long; then one question tries it
again, and its answer brings it back. All clients of one process that name the same servers share what they have learnt.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

FAILURES = 3
"""In a row, until a server is left out; at least."""

REST_S, LONGEST_REST_S = 30.0, 480.0
"""How long at first, and at most."""


@dataclass
class _Server:
    address: str
    under_way: int = 0
    asked: int = 0
    failures: int = 0
    rest_s: float = REST_S
    rests_until: float = 0.0
    """On the clock; 0 while it is in use."""


class Servers:
    """Safe to use from several threads.

    Args:
        addresses: at least one.
        clock: seconds that never go backwards.
    """

    def __init__(self, addresses: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = {address: _Server(address) for address in addresses}
        self._clock, self._lock = clock, threading.Lock()

    def take(self, tried: Collection[str] = ()) -> str | None:
        """The address to ask now, until `answered` or `failed` is told; None where all are left out.

        Args:
            tried: what this question has asked in vain: asked again only where there is no other. A dead server has
                nothing under way, and would be the next choice, too.
        """
        with self._lock:
            now = self._clock()
            free = [server for server in self._servers.values() if not server.rests_until]
            # One that has rested gets a single question.
            rested = [s for s in self._servers.values() if 0 < s.rests_until <= now and not s.under_way]
            if not free and not rested:
                return None
            untried = [[one for one in group if one.address not in tried] for group in (rested, free)]
            server = min(untried[0] or untried[1] or rested or free, key=lambda one: (one.under_way, one.asked))
            server.under_way, server.asked = server.under_way + 1, server.asked + 1
            return server.address

    def answered(self, address: str) -> None:
        """The server is there, whatever it said."""
        with self._lock:
            server = self._servers[address]
            server.under_way, server.failures = server.under_way - 1, 0
            server.rest_s, server.rests_until = REST_S, 0.0

    def failed(self, address: str, most: int = FAILURES) -> None:
        """The server gave no answer, or one that says it cannot; with `most` in a row it is left out."""
        with self._lock:
            server = self._servers[address]
            server.under_way, server.failures = server.under_way - 1, server.failures + 1
            tried_again = 0 < server.rests_until <= self._clock()
            if tried_again:
                server.rest_s = min(2 * server.rest_s, LONGEST_REST_S)
            if tried_again or (server.failures >= max(most, FAILURES) and not server.rests_until):
                server.rests_until = self._clock() + server.rest_s

    def given_up(self, address: str) -> None:
        """The question was called off: nothing was learnt."""
        with self._lock:
            self._servers[address].under_way -= 1

    @property
    def back_in_s(self) -> float:
        """Seconds until the first server that is left out is tried again; 0 where one is in use."""
        with self._lock:
            return max(0.0, min(server.rests_until for server in self._servers.values()) - self._clock())


@lru_cache(maxsize=256)
def servers_of(addresses: tuple[str, ...]) -> Servers:
    """The process's `Servers` of these addresses."""
    return Servers(addresses)
