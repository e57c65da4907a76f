"""Threads and event loops: map ahead in threads, and run a coroutine from synchronous code."""

import asyncio
import ctypes
import gc
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], most: int) -> Iterator[Result]:
    """Yield `work(item)` for every item, in order. Up to `most` items are processed at a time, in threads.

    Raises:
        Exception: an error of `work`, when its item's turn comes; an error of `items`, after the results before it.
    """
    coming, window, end = iter(items), deque[Future[Result]](), None
    with ThreadPoolExecutor(most, "ahead") as pool:
        try:
            while True:
                while end is None and len(window) < most:
                    try:
                        window.append(pool.submit(copy_context().run, work, next(coming)))
                    except Exception as error:  # StopIteration, too: raised when its turn comes
                        end = error
                if window:
                    yield window.popleft().result()
                elif end is None or isinstance(end, StopIteration):
                    return
                else:
                    raise end
        finally:
            for future in window:
                future.cancel()


def cut_groups(
    items: Iterable[Item], size: int, *, heavy: Callable[[Item], bool], most_heavy: int
) -> Iterator[list[Item]]:
    """Cut items into consecutive groups. Where a group ends depends only on the items before it.

    Args:
        items: read lazily, one group at a time.
        size: largest number of items of a group.
        heavy: whether an item takes much memory.
        most_heavy: largest number of such items in a group.

    Raises:
        Exception: an error of `items`, after the items before it.
    """
    group, weight, end = list[Item](), 0, None
    coming = iter(items)
    while end is None:
        try:
            item = next(coming)
        except Exception as error:  # StopIteration, too
            end = error
            break
        if len(group) == size or (heavy(item) and weight == most_heavy):
            yield group
            group, weight = [], 0
        group.append(item)
        weight += heavy(item)
    if group:
        yield group
    if not isinstance(end, StopIteration):
        raise end


def run_sync(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end from synchronous code.

    If this thread already runs an event loop (Jupyter, an async application), the coroutine runs in a new thread. In
    both cases it sees the caller's context variables, so a parent trace and usage counts are not lost.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, work).result()


_M_ARENA_MAX = -8
"""glibc's number for this setting."""


def share_arenas() -> None:
    """Let the threads that begin from now on share two of glibc's arenas, where glibc is C's library.

    By default up to eight threads per core have one each, and each keeps memory that it has freed.
    """
    _glibc("mallopt", _M_ARENA_MAX, 2)


def return_free_memory() -> None:
    """Return freed memory to the system, where glibc is C's library; others return it by themselves."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    found = getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
    if found:
        found(*arguments)


_TURN_S, _KEPT = 0.0002, 10_000
_paces, _paces_lock = list[tuple[float, tuple[int, int, int]]](), threading.Lock()


@contextmanager
def batch_pace() -> Iterator[None]:
    """Within the block, Python's threads hand over sooner, and Python looks for unused cycles of objects less often.

    A thread that runs Python code hands over after 0.2 ms where others wait, not after 5 ms. A net's thread needs
    Python for a moment between two of its products, and would wait so long each time while another thread walks posts
    through the graph. Cycles are sought after 10,000 new objects, not after 700: the objects of a few hundred posts in
    progress are all in use, and looking through them again and again took 30% of the CPU time around the tagger.

    The last of several blocks restores both settings.
    """
    with _paces_lock:
        _paces.append((sys.getswitchinterval(), gc.get_threshold()))
        turn, (most, *older) = _paces[0]
        sys.setswitchinterval(min(turn, _TURN_S))
        gc.set_threshold(most and max(most, _KEPT), *older)  # 0: switched off
    try:
        yield
    finally:
        with _paces_lock:
            turn, threshold = _paces[0]
            _paces.pop()
            if not _paces:
                sys.setswitchinterval(turn)
                gc.set_threshold(*threshold)
