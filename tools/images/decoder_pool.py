"""Decodes pictures in worker processes with a deadline, so that a decoder that never ends blocks nothing else.

A worker starts at the first picture that needs one, by `exec` and not by `fork`, so that threads, models and CUDA of
this process do not matter. It gets a picture's bytes and returns pixels, one picture at a time. Its environment holds
no secrets. It ends with this process, or at the latest at the deadline of its current picture.
"""

import os
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Self, cast

from PIL import Image

from namepin.tools.images.decode import Damaged
from namepin.tools.images.headers import TooLarge

REQUEST = struct.Struct(">QQd")
"""Request: bytes of the file, largest number of pixels, largest number of seconds."""
ANSWER = struct.Struct(">BIIQ")
"""Answer: outcome, width, height, number of bytes that follow (pixels, or a message)."""
PIXELS, TOO_LARGE, DAMAGED = 0, 1, 2
READY = b"R"

_ROOT = str(Path(__file__).absolute().parents[3])  # the folder that holds the package
_START_S = 60.0
_KEPT_VARIABLES = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "PATH", "SYSTEMROOT", "TMPDIR")


class TooSlow(Exception):
    """The picture was not decoded within its deadline, or its decoder cannot run."""


class _WorkerEnded(Exception):
    """The worker has ended unexpectedly."""


class _Deadline:
    """Kills a process after some seconds, unless the block ends before. It never kills after the block."""

    def __init__(self, process: "subprocess.Popen[bytes]", seconds: float) -> None:
        self.passed, self._process, self._over = False, process, False
        self._lock = threading.Lock()
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._over = True
        self._timer.cancel()

    def _pass(self) -> None:
        with self._lock:
            if not self._over:
                self.passed = True
                self._process.kill()


class _Worker:
    """One worker process, for one thread at a time.

    Raises:
        TooSlow: the worker does not start.
    """

    def __init__(self) -> None:
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        environment["PYTHONPATH"] = os.pathsep.join([_ROOT, *filter(None, sys.path)])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", "from namepin.tools.images.decoder_worker import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment,
                process_group=0 if os.name == "posix" else None,  # Ctrl-C is for this process
            )
        except OSError as error:
            raise TooSlow from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._to, self._back = self._process.stdin, self._process.stdout
        with _Deadline(self._process, _START_S):
            if self._back.read(1) != READY:
                self.end()
                raise TooSlow

    def decode(self, data: bytes, max_pixels: int, deadline_s: float) -> Image.Image:
        """Decode a picture. After any error except TooLarge and Damaged, the worker is unusable.

        Raises:
            TooLarge, Damaged: as `decode.decode`; TooSlow, _WorkerEnded.
        """
        with _Deadline(self._process, deadline_s) as deadline:
            try:
                self._to.write(REQUEST.pack(len(data), max_pixels, deadline_s))
                self._to.write(data)
                self._to.flush()
                how, width, height, length = ANSWER.unpack(self._read(ANSWER.size))
                content = self._read(length)
            except OSError as error:
                raise (TooSlow if deadline.passed else _WorkerEnded) from error
        if how == TOO_LARGE:
            raise TooLarge(content.decode())
        if how == DAMAGED:
            raise Damaged(content.decode())
        return Image.frombytes("RGB", (width, height), content)

    def kill(self) -> None:
        """Kill the process; the thread that waits for it cleans up."""
        self._process.kill()

    def end(self) -> None:
        """End the process at once."""
        self._process.kill()
        for wire in (self._to, self._back):
            with suppress(OSError):
                wire.close()
        self._process.wait()

    def let_go(self) -> None:
        """In a forked child: close the pipes, which would keep the worker alive after its parent."""
        for wire in (self._to, self._back):
            with suppress(OSError):
                cast(BufferedReader, wire).raw.close()
        self._process.returncode = 0  # it is not this process's child

    def _read(self, length: int) -> bytes:
        content = self._back.read(length)
        if len(content) < length:
            raise OSError("it has ended")
        return content


class DecoderPool:
    """A pool of worker processes, started when they are needed. Safe for several threads.

    Args:
        most: largest number of processes.
    """

    def __init__(self, most: int) -> None:
        self._most, self._closed = most, False
        self._idle: list[_Worker] = []
        self._busy: set[_Worker] = set()
        self._starting = 0
        self._changed = threading.Condition()

    def decode(self, data: bytes, max_pixels: int, deadline_s: float) -> Image.Image:
        """Decode a picture in a worker process. Waits for a free one; the deadline begins then.

        Raises:
            TooLarge, Damaged: as `decode.decode`.
            TooSlow: when decoding misses the deadline, or the worker cannot run.
        """
        for _ in range(2):
            worker, fresh = self._take()
            usable = False
            try:
                image = worker.decode(data, max_pixels, deadline_s)
                usable = True
                return image
            except (TooLarge, Damaged):
                usable = True
                raise
            except _WorkerEnded as error:
                if self._closed:
                    raise TooSlow from error
                if fresh:  # an older worker may have been killed from outside before this picture
                    raise Damaged("the decoder crashed on it") from error
            finally:
                self._give(worker, usable)
        raise TooSlow

    def close(self) -> None:
        """End all processes. Pictures in work, and later ones, raise `TooSlow`."""
        with self._changed:
            self._closed = True
            idle, self._idle = self._idle, []
            for worker in self._busy:
                worker.kill()
            self._changed.notify_all()
        for worker in idle:
            worker.end()

    def _take(self) -> tuple[_Worker, bool]:
        """A process, and whether it is a new one."""
        with self._changed:
            while not self._closed and not self._idle and len(self._busy) + self._starting >= self._most:
                self._changed.wait()
            if self._closed:
                raise TooSlow
            if self._idle:
                worker = self._idle.pop()
                self._busy.add(worker)
                return worker, False
            self._starting += 1
        try:
            worker = _Worker()
        except BaseException:
            with self._changed:
                self._starting -= 1
                self._changed.notify()
            raise
        with self._changed:
            self._starting -= 1
            self._busy.add(worker)
            if self._closed:
                worker.kill()
        return worker, True

    def _give(self, worker: _Worker, usable: bool) -> None:
        with self._changed:
            self._busy.discard(worker)
            keep = usable and not self._closed
            if keep:
                self._idle.append(worker)
            self._changed.notify()
        if not keep:
            worker.end()

    def let_go(self) -> None:
        """In a forked child: forget the parent's processes."""
        for worker in (*self._idle, *self._busy):
            worker.let_go()
