"""A PostgreSQL of its own for a test, reached by a Unix socket."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ADD = "no PostgreSQL: apt-get install -y postgresql"


def binaries() -> Path | None:
    """Where `initdb` is: on the path, or where Debian puts the newest version."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_version)
    return places[-1] if places else None


def _version(folder: Path) -> float:
    return float(folder.parent.name)


class Server:
    """A database cluster in a folder of its own, reached by a Unix socket in it."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self.binaries, self.folder = binaries, folder
        # The server refuses to be root, which tests in a container are.
        self.user = "nobody" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(folder, self.user)
        self._do("initdb", "--auth=trust", "--username=namepin", "--no-sync", "-D", folder / "data")

    @property
    def url(self) -> str:
        return f"postgresql://namepin:secret-password@/postgres?host={self.folder}"

    def start(self) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.folder} -c fsync=off"
        log = self.folder / "log"
        self._do("pg_ctl", "start", "--wait", "-D", self.folder / "data", "-l", log, "-o", options)

    def stop(self) -> None:
        self._do("pg_ctl", "stop", "--wait", "-D", self.folder / "data", "-m", "fast")

    def _do(self, program: str, *arguments: str | Path) -> None:
        command = [str(self.binaries / program), *map(str, arguments)]
        quiet = subprocess.DEVNULL
        ran = subprocess.run(
            command, user=self.user, cwd=self.folder, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE
        )
        assert ran.returncode == 0, ran.stderr.decode(errors="replace")


@contextmanager
def postgres() -> Iterator[Server]:
    """A running server; the test is skipped where PostgreSQL is not installed."""
    found = binaries()
    if found is None:
        assert not os.environ.get("NAMEPIN_REQUIRE_SYSTEM"), ADD
        pytest.skip(ADD)
    # Not pytest's folder: only its owner may enter that, and a socket's path is short.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        server = Server(found, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()
