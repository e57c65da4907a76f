"""Threads for the independent passes of a net on a CPU."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Barrier, Lock
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_making = Lock()  # one pool at a time: while its threads start, torch's number of threads is their share


def map_passes(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work(item)` for every item, in order; the items divide torch's threads among them.

    A product of a small net is done before two threads have met for it: one pass in each of two threads does more than
    both threads in every pass. `work` runs without the caller's `torch.inference_mode`, which belongs to a thread.

    Raises:
        Exception: the first error of `work`, in the items' order.
    """
    with _making:
        threads = torch.get_num_threads()
        workers = min(len(items), threads)
        pool = _pool(workers, threads // workers) if workers > 1 else None
    return list(pool.map(work, items)) if pool else [work(item) for item in items]


@cache
def _pool(workers: int, share: int) -> ThreadPoolExecutor:
    """Threads that stay: new ones for each call would each take memory of their own, which the process then keeps."""
    started = Barrier(workers + 1)

    def take_share() -> None:
        torch.get_num_threads()  # a thread's first use of torch takes the number that holds then
        started.wait()

    before = torch.get_num_threads()
    torch.set_num_threads(share)
    try:
        pool = ThreadPoolExecutor(workers, "pass", take_share)
        for _ in range(workers):  # no thread is idle before all have started, so each of these starts one
            pool.submit(int)
        started.wait()
    except BaseException:
        started.abort()  # no thread waits for one that could not start
        raise
    finally:
        torch.set_num_threads(before)
    return pool


def _forget_pools() -> None:
    """A child process has none of its parent's threads."""
    _pool.cache_clear()
    _making.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_making.acquire, after_in_parent=_making.release, after_in_child=_forget_pools)
