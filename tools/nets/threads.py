"""Threads for the independent passes of a net on a CPU."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from threading import Thread
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_passes(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`work(item)` for every item, in order; the items divide torch's threads among them.

    A product of a small net is done before two threads have met for it: one pass in each of two threads does more than
    both threads in every pass. `work` runs without the caller's `torch.inference_mode`, which belongs to a thread.

    Raises:
        Exception: the first error of `work`, in the items' order.
    """
    threads = torch.get_num_threads()
    workers = min(len(items), threads)
    if workers < 2:
        return [work(item) for item in items]
    return list(_pool(workers, threads).map(work, items))


@cache
def _pool(workers: int, threads: int) -> ThreadPoolExecutor:
    """Threads that stay: new ones for each call would each take memory of their own, which the process then keeps."""
    return ThreadPoolExecutor(workers, "pass", _take_share, (threads // workers, threads))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


def _take_share(share: int, threads: int) -> None:
    """Give this thread its share of torch's threads, and leave the default of later threads at all of them."""
    torch.get_num_threads()  # its first use would set the share back
    torch.set_num_threads(share)
    other = Thread(target=torch.set_num_threads, args=(threads,))
    other.start()
    other.join()
