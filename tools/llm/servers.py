"""Load balancing over the servers of one chat model, with a circuit breaker for servers that fail.

A question goes to the server with the fewest open questions. A server that fails too often in a row (three times, or
the attempts of one question) is excluded for half a minute, and each further time for twice as long. Then one question
tries it again, and an answer brings it back. All clients of a process with the same servers share this state.
"""

import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

FAILURES = 3
"""Least number of failures in a row that exclude a server."""

REST_S, LONGEST_REST_S = 30.0, 480.0
"""Shortest and longest exclusion, in seconds."""


@dataclass
class _Server:
    address: str
    under_way: int = 0
    asked: int = 0
    failures: int = 0
    rest_s: float = REST_S
    rests_until: float = 0.0
    """End of the exclusion, on the clock; 0 while the server is in use."""


class Servers:
    """The servers of one model. Safe for several threads.

    Args:
        addresses: at least one.
        clock: seconds that never go backwards.
    """

    def __init__(self, addresses: Sequence[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._servers = {address: _Server(address) for address in addresses}
        self._clock, self._lock = clock, threading.Lock()

    def take(self, tried: Collection[str] = ()) -> str | None:
        """The address for a question, open until `report_answer` or `report_failure`; None if all are excluded.

        Args:
            tried: addresses where this question has failed; used again only without another one. A dead server has no
                open questions, and would be the next choice, too.
        """
        with self._lock:
            now = self._clock()
            free = [server for server in self._servers.values() if not server.rests_until]
            # A server whose exclusion has ended gets a single question.
            rested = [s for s in self._servers.values() if 0 < s.rests_until <= now and not s.under_way]
            if not free and not rested:
                return None
            untried = [[one for one in group if one.address not in tried] for group in (rested, free)]
            server = min(untried[0] or untried[1] or rested or free, key=lambda one: (one.under_way, one.asked))
            server.under_way, server.asked = server.under_way + 1, server.asked + 1
            return server.address

    def report_answer(self, address: str) -> None:
        """Report an answer of the server, whatever it was."""
        with self._lock:
            server = self._servers[address]
            server.under_way, server.failures = server.under_way - 1, 0
            server.rest_s, server.rests_until = REST_S, 0.0

    def report_failure(self, address: str, most: int = FAILURES) -> None:
        """Report that the server did not answer or was overloaded; `most` failures in a row exclude it."""
        with self._lock:
            server = self._servers[address]
            server.under_way, server.failures = server.under_way - 1, server.failures + 1
            tried_again = 0 < server.rests_until <= self._clock()
            if tried_again:
                server.rest_s = min(2 * server.rest_s, LONGEST_REST_S)
            if tried_again or (server.failures >= max(most, FAILURES) and not server.rests_until):
                server.rests_until = self._clock() + server.rest_s

    def given_up(self, address: str) -> None:
        """Report a cancelled question, which says nothing about the server."""
        with self._lock:
            self._servers[address].under_way -= 1

    @property
    def back_in_s(self) -> float:
        """Seconds until the first excluded server is tried again; 0 where a server is in use."""
        with self._lock:
            return max(0.0, min(server.rests_until for server in self._servers.values()) - self._clock())


@lru_cache(maxsize=256)
def servers_of(addresses: tuple[str, ...]) -> Servers:
    """The process's `Servers` of these addresses."""
    return Servers(addresses)
