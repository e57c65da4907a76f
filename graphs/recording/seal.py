"""`python -m namepin.graphs.recording.seal DIR...`: cassettes of format 1 get the digests of format 2.

Only a cassette that replays without a difference is sealed, so the digests cover the original recording.
"""

import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from namepin.graphs.recording import cassette_files as files
from namepin.graphs.recording.replay import replay
from namepin.graphs.state import Json
from namepin.tools.errors import NamepinError, in_one_line
from namepin.tools.files import atomic_write


def seal(directory: Path) -> None:
    """Seal one cassette.

    Raises:
        NamepinError: E401 when it is not a cassette of format 1, E403 when it does not replay as it was recorded, E501
            when it cannot be written.
    """
    setups = files.read_manifest(directory, version=1)
    body = files.read_bytes(directory / files.LINES)
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "cassette"
        shutil.copytree(directory, trial, symlinks=True)
        _write(trial, setups, body)
        for _ in replay(trial, check=True):
            pass
    try:
        _write(directory, setups, body)
    except OSError as error:
        what = f"the cassette cannot be written: {error.strerror or error}"
        raise NamepinError("E501", what, where=str(directory), mend="name a folder you can write to") from error


def _write(directory: Path, setups: Json, body: bytes) -> None:
    start = body.rfind(b"\n", 0, len(body) - 1) + 1
    if body[start:] == files.end_line(body[:start]):
        body = body[:start]  # left by a run that stopped between the two files
    atomic_write(directory / files.LINES, body + files.end_line(body))
    atomic_write(directory / files.MANIFEST, files.manifest_text(setups))


def main(arguments: Sequence[str]) -> None:
    """Seal each folder of the command line."""
    with in_one_line():
        for name in arguments:
            seal(Path(name))
            print(f"sealed {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
