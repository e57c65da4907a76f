"""Threads and event loops: map ahead in threads, and run a coroutine from code that does not await."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_ahead(work: Callable[[Item], Result], items: Iterable[Item], most: int) -> Iterator[Result]:
    """`work(item)` for every item, in order; `most` items are taken and worked on at a time, in threads.

    Raises:
        Exception: what `work` raises, in its item's place; what taking an item raises, after all before it.
    """
    coming, window, end = iter(items), deque[Future[Result]](), None
    with ThreadPoolExecutor(most, "ahead") as pool:
        try:
            while True:
                while end is None and len(window) < most:
                    try:
                        window.append(pool.submit(copy_context().run, work, next(coming)))
                    except Exception as error:  # StopIteration, too: said when its turn comes
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


def run_sync(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end from code that does not await.

    Where this thread already runs an event loop (Jupyter, an async application), the coroutine runs in a thread of its
    own. It sees the caller's context variables either way, so a parent trace and usage counts are not lost.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(copy_context().run, asyncio.run, work).result()
