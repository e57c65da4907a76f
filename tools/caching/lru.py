"""A bounded cache that several threads share: `cachetools.LRUCache` with a lock, and with room for nothing if asked."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """At most `capacity` values, the most recently used ones; 0 keeps none. Safe for several threads."""

    def __init__(self, capacity: int) -> None:
        self._values: LRUCache[K, V] = LRUCache(capacity)
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, now the most recent; None when it is not (or no longer) here."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Keep `value`; the value unused longest makes room for it."""
        with self._lock:
            if self._values.maxsize:
                self._values[key] = value

    def __len__(self) -> int:
        return len(self._values)
