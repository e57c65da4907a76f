"""A busy process with loaded tools forks: its children refuse at once, instead of waiting for threads they lack."""

import multiprocessing
import threading
from multiprocessing.queues import SimpleQueue

from namepin.agent.api import Namepin
from support.paths import ROOT

TEXT, PICTURE = "Eileen Collins in front of the Discovery", ROOT / "examples" / "astronaut.jpg"
CHILDREN = 3


def child(pin: Namepin, answers: "SimpleQueue[list[str]]") -> None:
    codes = []
    for call in (lambda: pin.extract(TEXT, PICTURE), lambda: next(pin.batch([TEXT])), pin.load):
        try:
            call()
            codes.append("no error")
        except BaseException as error:
            codes.append(getattr(error, "code", repr(error)))
    answers.put(codes)


def test_namepin_in_a_forked_child_raises_e304_and_parent_goes_on() -> None:
    pin, stop = Namepin.from_profile("starter").load(), threading.Event()
    expected = pin.extract(TEXT, PICTURE).entities

    def work() -> None:
        while not stop.is_set():
            pin.extract(TEXT)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(CHILDREN):
            answers: SimpleQueue[list[str]] = context.SimpleQueue()
            process = context.Process(target=child, args=(pin, answers))
            process.start()
            assert answers.get() == ["E304"] * 3
            process.join()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert pin.extract(TEXT, PICTURE).entities == expected
