"""Work on a few items ahead of the one that is waited for, in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(work: Callable[[Item], Result], items: Iterable[Item], most: int) -> Iterator[Result]:
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
