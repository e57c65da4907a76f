"""Working ahead: in order, so many at a time, errors in their place."""

import gc
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from namepin.tools.concurrency import batch_pace, map_ahead
from support.waiting import PATIENCE_S


def test_map_ahead_runs_given_number_at_once_and_yields_in_order() -> None:
    meet, taken = threading.Barrier(3, timeout=PATIENCE_S), list[int]()

    def items() -> Iterator[int]:
        for number in range(9):
            taken.append(number)
            yield number

    def work(number: int) -> int:
        meet.wait()  # three at a time, or never
        return number * number

    found = map_ahead(work, items(), 3)
    assert taken == [], "nothing is taken before it is asked for"
    assert next(found) == 0 and len(taken) == 3
    assert list(found) == [n * n for n in range(1, 9)]


def test_map_ahead_raises_errors_at_their_position() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise KeyError("no item")

    found = map_ahead(lambda n: 2 // (n - 2), items(), 8)
    assert next(found) == -2
    with pytest.raises(ZeroDivisionError):
        next(found)
    found = map_ahead(lambda n: n, items(), 8)
    assert [next(found), next(found)] == [1, 2]
    with pytest.raises(KeyError):
        next(found)


def test_map_ahead_after_close_starts_no_further_work() -> None:
    began, others = list[int](), threading.active_count()
    gate = threading.Event()

    def work(number: int) -> int:
        began.append(number)
        if number:
            gate.wait(PATIENCE_S)
        return number

    found = map_ahead(work, range(100), 2)
    assert next(found) == 0
    gate.set()
    found.close()  # type: ignore[attr-defined]  # a generator
    assert set(began) <= {0, 1, 2} and threading.active_count() < others + 10


def test_batch_pace_lasts_until_end_of_last_overlapping_block() -> None:
    before = sys.getswitchinterval(), gc.get_threshold()
    first, second = batch_pace(), batch_pace()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert sys.getswitchinterval() < before[0] and gc.get_threshold()[0] > before[1][0]
    second.__exit__(None, None, None)
    assert (sys.getswitchinterval(), gc.get_threshold()) == before


def test_batch_pace_leaves_collection_off_where_it_is_off() -> None:
    before = gc.get_threshold()
    gc.set_threshold(0, *before[1:])
    try:
        with batch_pace():
            assert gc.get_threshold()[0] == 0
    finally:
        gc.set_threshold(*before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries return memory by themselves")
def test_return_free_memory_shrinks_process() -> None:
    """In a process of its own, since the others' threads allocate, too."""
    script = (
        "from namepin.tools.concurrency import return_free_memory\n"
        "held = lambda: int(open('/proc/self/statm').read().split()[1]) * 4096\n"
        "blocks = [bytes(100_000) for _ in range(1000)]\n"
        "last = blocks.pop()  # above the freed ones, so that they stay\n"
        "blocks.clear(); before = held(); return_free_memory(); print(before - held())"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert int(done.stdout) > 5e7
