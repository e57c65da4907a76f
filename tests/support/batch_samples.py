"""Inputs for the tests of batches, and runs in processes of their own that can be killed."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

NAMES = ("Bob Dylan in Oslo", "Angelina Jolie at the White House", "nothing to see", "NASA and Apple", "Paris Hilton")


def write_posts(path: Path, number: int, **extra: Any) -> Path:
    """Posts of text alone, their ids in order."""
    rows = [{"id": f"p{i:04}", "text": f"{NAMES[i % len(NAMES)]} {i}", **extra} for i in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def timeless(path: Path) -> list[dict[str, Any]]:
    """Predictions without what the clock decides."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [{key: value for key, value in row.items() if key != "timings_ms"} for row in rows]


_STARTED = multiprocessing.get_context("forkserver")
_STARTED.set_forkserver_preload(
    ["torch", "transformers.models.bert.modeling_bert", "namepin.agent.cli.main", "namepin.agent.batch.local_engine"]
)


def get_ready() -> None:
    """Begin to import what `start` needs, meanwhile."""
    forkserver.ensure_running()


class Started:
    """A command in a process of its own, forked from one that has imported what it needs: seconds less for each."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._said = tempfile.TemporaryDirectory()
        for name in ("out", "err"):
            Path(self._said.name, name).touch()  # the process may be killed before it has said anything
        given = (list(arguments), dict(os.environ), self._said.name)
        self._process = _STARTED.Process(target=_run, args=given)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code; the negative number of the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """To the process."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Wait for its end; standard output and error."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("namepin", timeout or 0.0)
        out, err = (Path(self._said.name, name).read_bytes() for name in ("out", "err"))
        self._said.cleanup()
        return out, err


def _run(arguments: list[str], environment: Mapping[str, str], said: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(Path(said, name), os.O_WRONLY | os.O_CREAT), number)
    os.environ.update(environment)
    from namepin.agent.cli.main import main

    code = main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def start(arguments: Sequence[str | Path]) -> Started:
    """`namepin batch ...` in a process of its own."""
    return Started(["batch", *map(str, arguments)])
