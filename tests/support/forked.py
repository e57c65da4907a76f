"""Processes forked from one that has imported what Namepin needs: each is ready seconds sooner than a new interpreter.

They can be killed, and have their own environment, folder, standard input, output and error.
"""

import atexit
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "torch",
        "transformers.models.auto.modeling_auto",
        "transformers.models.auto.tokenization_auto",
        "transformers.models.bert.modeling_bert",
        "namepin.agent.cli.main",
        "namepin.agent.batch.local_engine",
        "namepin.agent.server.app",
        "namepin.finetune.loop.trainer",
        "rapidocr.main",
        "support.batch_runs",
    ]
)


def get_ready() -> None:
    """Begin to import what the processes need, meanwhile."""
    forkserver.ensure_running()


class Forked:
    """A call in a process of its own, with the interface of `subprocess.Popen`."""

    def __init__(
        self,
        target: Callable[..., object],
        *given: object,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: bytes = b"",
    ) -> None:
        """Start it.

        Args:
            target: a function of a module that can be imported; where it returns, the process ends with 0.
            given: its arguments.
            env: the environment, this process's one where nothing is given.
            cwd: the folder it runs in.
            stdin: what it can read.
        """
        self._said = Path(tempfile.mkdtemp(prefix="forked-"))
        self.log = self._said / "err"
        for name, content in (("in", stdin), ("out", b""), ("err", b"")):
            # The process may be killed before it has said anything.
            (self._said / name).write_bytes(content)
        where = (dict(os.environ if env is None else env), str(cwd or Path.cwd()), str(self._said))
        self._process = _CONTEXT.Process(target=_run, args=(target, given, *where))
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code; the negative number of the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """To the process."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, where it has not ended."""
        self._process.kill()

    def terminate(self) -> None:
        """SIGTERM, where it has not ended."""
        self._process.terminate()

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("forked", timeout or 0.0)
        return self.returncode

    def communicate(self) -> tuple[bytes, bytes]:
        """Wait for its end, and remove its files; standard output and error."""
        self.wait()
        out, err = ((self._said / name).read_bytes() for name in ("out", "err"))
        shutil.rmtree(self._said)
        return out, err


def _run(
    target: Callable[..., object], given: Sequence[Any], environment: Mapping[str, str], cwd: str, said: str
) -> None:
    for number, name, mode in ((0, "in", os.O_RDONLY), (1, "out", os.O_WRONLY), (2, "err", os.O_WRONLY)):
        os.dup2(os.open(Path(said, name), mode | os.O_APPEND), number)
    # multiprocessing gives its children an empty standard input.
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    code: str | int | None = 1
    try:
        target(*given)
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    # As an interpreter does at its end, and multiprocessing does not.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    sys.exit(code)


def command(arguments: Sequence[str]) -> None:
    """`namepin ARGUMENTS`."""
    from namepin.agent.cli.main import run

    sys.argv = ["namepin", *arguments]
    run()


def namepin(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: bytes = b""
) -> Forked:
    """The command in a process of its own."""
    return Forked(command, list(map(str, arguments)), env=env, cwd=cwd, stdin=stdin)
