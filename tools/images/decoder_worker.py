"""The worker process of `decoder_pool`: reads pictures from standard input, writes pixels to standard output."""

import os
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import IO

from PIL import Image

from namepin.tools.images.decode import Damaged, decode
from namepin.tools.images.decoder_pool import ANSWER, DAMAGED, PIXELS, READY, REQUEST, TOO_LARGE
from namepin.tools.images.headers import TooLarge

MEMORY = 6 * 2**30
"""Bytes of address space: a picture of 64 million pixels and its file need less than a third of it."""


def main() -> None:
    """Serve until standard input ends."""
    wire_in, wire_out = sys.stdin.buffer, sys.stdout.buffer
    _bound_process()
    threading.Thread(target=_end_with_parent, args=(wire_out.fileno(),), daemon=True).start()
    wire_out.write(READY)
    wire_out.flush()
    while head := wire_in.read(REQUEST.size):
        length, max_pixels, deadline_s = REQUEST.unpack(head)
        _end_by(deadline_s)
        data = wire_in.read(length)
        _answer(wire_out, data, max_pixels)
        _end_by(0)


def _answer(wire: IO[bytes], data: bytes, max_pixels: int) -> None:
    try:
        image = decode(data, max_pixels)
    except TooLarge as error:
        _write(wire, TOO_LARGE, (0, 0), str(error).encode())
    except Damaged as error:
        _write(wire, DAMAGED, (0, 0), str(error).encode())
    else:
        _write(wire, PIXELS, image.size, image.tobytes())


def _write(wire: IO[bytes], how: int, size: tuple[int, int], content: bytes) -> None:
    wire.write(ANSWER.pack(how, *size, len(content)))
    wire.write(content)
    wire.flush()


def _bound_process() -> None:
    Image.preinit()
    if os.name != "posix":
        return
    import resource

    for what, most in ((resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_CORE, 0)):
        with suppress(OSError, ValueError):  # a lower limit holds already, or the system lacks this limit
            resource.setrlimit(what, (most, resource.getrlimit(what)[1]))


def _end_by(seconds: float) -> None:
    """Let the system end this process after that time, even without a parent; 0 cancels it."""
    if os.name == "posix":
        signal.setitimer(signal.ITIMER_REAL, seconds and seconds + 5.0)


def _end_with_parent(wire: int) -> None:
    """End the process when the reader of the answers is gone, also in the middle of a picture."""
    if os.name != "posix":
        return
    poll = select.poll()
    poll.register(wire, 0)  # a hang-up is always reported
    poll.poll()
    os._exit(1)
