"""A process with threads and loaded tools forks: the children read posts as their parent does."""

import multiprocessing
import threading
from multiprocessing.queues import SimpleQueue

from namepin.agent.api import Namepin
from support.paths import ROOT

TEXT, PICTURE = "Eileen Collins in front of the Discovery", ROOT / "examples" / "astronaut.jpg"
CHILDREN = 3


def read(pin: Namepin) -> list[tuple[str, object]]:
    return [(entity.text, entity.box) for entity in pin.extract(TEXT, PICTURE).entities]


def child(pin: Namepin, answers: "SimpleQueue[object]") -> None:
    try:
        answers.put(read(pin))
    except BaseException as error:
        answers.put(repr(error))


def test_forked_children_of_a_busy_process_read_posts() -> None:
    pin, stop = Namepin.from_profile("starter"), threading.Event()
    expected = read(pin)

    def work() -> None:
        while not stop.is_set():
            read(pin)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    context = multiprocessing.get_context("fork")
    try:
        for _ in range(CHILDREN):
            answers: SimpleQueue[object] = context.SimpleQueue()
            process = context.Process(target=child, args=(pin, answers))
            process.start()
            assert answers.get() == expected
            process.join()
            assert process.exitcode == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
