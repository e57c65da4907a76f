"""Passes in threads: order, each thread's share, the default of other threads, and errors."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from namepin.tools.nets.threads import _pool, map_passes
from support.waiting import PATIENCE_S


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def share(item: object) -> tuple[object, int]:
    torch.ones(64, 64) @ torch.ones(64, 64)
    return item, torch.get_num_threads()


@pytest.mark.parametrize(("items", "each"), [(2, 2), (3, 1), (4, 1), (9, 1)])
def test_passes_share_the_threads_and_keep_their_order(items: int, each: int) -> None:
    assert map_passes(share, range(items)) == [(item, each) for item in range(items)]


@pytest.mark.parametrize("items", [[], ["alone"]])
def test_single_pass_has_all_threads(items: list[str]) -> None:
    assert map_passes(share, items) == [(item, 4) for item in items]


def test_threads_that_begin_meanwhile_have_the_default() -> None:
    together = threading.Barrier(2, timeout=PATIENCE_S)

    def work(item: int) -> int:
        together.wait()  # both passes have taken their share
        with ThreadPoolExecutor(1) as other:
            return other.submit(share, item).result()[1]

    assert map_passes(work, [1, 2]) == [4, 4]
    assert torch.get_num_threads() == 4


def test_error_of_a_pass_is_raised_and_the_default_stays() -> None:
    with pytest.raises(ZeroDivisionError):
        map_passes(lambda item: 1 // item, [1, 0, 2])
    with ThreadPoolExecutor(1) as other:
        assert other.submit(share, "later").result() == ("later", 4)


def test_all_threads_have_their_share_before_the_first_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that took its share after the passes would change the default meanwhile."""
    _pool.cache_clear()
    seen: list[str] = []
    count = torch.get_num_threads

    def note_thread() -> int:
        seen.append(threading.current_thread().name)
        return count()

    monkeypatch.setattr(torch, "get_num_threads", note_thread)
    map_passes(lambda _: seen.append("a pass"), range(3))
    assert {"pass_0", "pass_1", "pass_2"} <= set(seen[: seen.index("a pass")])


def test_thread_that_cannot_start_is_an_error_and_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    _pool.cache_clear()
    start, started = threading.Thread.start, list[threading.Thread]()

    def start_one(thread: threading.Thread) -> None:
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        map_passes(share, range(2))
    started[0].join()
    monkeypatch.undo()
    assert map_passes(share, range(2)) == [(0, 2), (1, 2)]
