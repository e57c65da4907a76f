"""The helper behind `make test-busy`: its loops are there while the command runs, and gone afterwards."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BUSY = Path(__file__).parents[1] / ".ci" / "busy.py"
CHILDREN = """
import os, sys
parent = os.getppid()
print(open(f"/proc/{parent}/task/{parent}/children").read())
sys.exit(3)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are listed in /proc")
def test_busy_loops_end_with_command() -> None:
    command = [sys.executable, str(BUSY), "--loops", "2", sys.executable, "-c", CHILDREN]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 3 and "exit code 3 beside 2 busy loops" in ran.stdout
    children = [int(pid) for pid in ran.stdout.splitlines()[0].split()]
    assert len(children) == 3, "two loops and the command"
    for pid in children:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
