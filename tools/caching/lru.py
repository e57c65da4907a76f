"""A bounded cache for several threads: `cachetools.LRUCache` with a lock, and with capacity 0 allowed."""

import threading
from collections.abc import Hashable
from typing import Generic, TypeVar

from cachetools import LRUCache

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class LruCache(Generic[K, V]):
    """The `capacity` most recently used values; with 0, no values. Safe for several threads."""

    def __init__(self, capacity: int) -> None:
        self._values: LRUCache[K, V] = LRUCache(capacity)
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """The value, which becomes the most recent one; None when it is not in the cache."""
        with self._lock:
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        """Store `value`, and evict the least recently used one if needed."""
        with self._lock:
            if self._values.maxsize:
                self._values[key] = value

    def __len__(self) -> int:
        return len(self._values)
