"""Threads for the independent passes of a net on a CPU."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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
    with ThreadPoolExecutor(workers, "pass", _take_share, (threads // workers, threads)) as pool:
        return list(pool.map(work, items))


def _take_share(share: int, threads: int) -> None:
    """Give this thread its share of torch's threads, and leave the default of later threads at all of them."""
    torch.get_num_threads()  # its first use would set the share back
    torch.set_num_threads(share)
    other = Thread(target=torch.set_num_threads, args=(threads,))
    other.start()
    other.join()
