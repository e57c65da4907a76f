"""`make test-busy`: a command with busy loops beside it, as on a machine that others use, too.

`python .ci/busy.py COMMAND...` runs the command beside four loops (`--loops N` for another number), prints how long it
took, and exits as it did. The loops end with it, and by themselves when this process is killed.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack

LOOP = """
import os
parent = os.getppid()
while os.getppid() == parent:
    for _ in range(10**6):
        pass
"""


def run(command: Sequence[str], loops: int) -> int:
    """Run the command beside the loops; its exit code."""
    began = time.monotonic()
    with ExitStack() as stack:
        for _ in range(loops):
            loop = stack.enter_context(subprocess.Popen([sys.executable, "-c", LOOP]))
            stack.callback(loop.kill)
        code = subprocess.run(command).returncode
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)  # the loops are not over, and not counted
    took = time.monotonic() - began
    cpu = (spent.ru_utime + spent.ru_stime) / 60
    print(f"exit code {code} beside {loops} busy loops: {took / 60:.1f} minutes, {cpu:.1f} core minutes")
    return code


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loops", type=int, default=4)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    asked = parser.parse_args()
    sys.exit(run(asked.command, asked.loops))
