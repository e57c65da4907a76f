"""A batch of many rows, one in a hundred bad: limits, damage, repair, and what each step costs. No model is loaded.

`PYTHONPATH=tests python tests/load/batch_rows.py --rows 100000`
"""

import argparse
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from namepin.agent.batch.finished import FAILURES, PREDICTIONS
from namepin.tools.errors import NamepinError
from support.batch_runs import run, write_rows


def main() -> None:
    """Run it, and print a line a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    count = parser.parse_args().rows
    rng = random.Random(1)
    bad: tuple[Any, ...] = ("{", "[1]", '{"id": "x"}', '{"id": "x", "text": ""}', '{"id": "x", "text": "a", "n": NaN}')
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [rng.choice(bad) if rng.random() < 0.01 else {"id": n, "text": f"Bob {n}"} for n in range(count)]
        posts, out = write_rows(folder / "posts.jsonl", rows), folder / "out"
        _timed("whole", lambda: run(posts, folder / "whole"))
        _timed("first half", lambda: run(posts, out, limit=count // 2))
        lines = (out / PREDICTIONS).read_bytes().splitlines(keepends=True)
        lines[len(lines) // 3] = b"garbage\n"
        (out / PREDICTIONS).write_bytes(b"".join(lines))
        try:
            run(posts, out)
        except NamepinError as error:
            print(error)
        _timed("repair", lambda: run(posts, out, repair=True))
        _timed("nothing left", lambda: run(posts, out))
        equal = all(
            (out / file).read_bytes() == (folder / "whole" / file).read_bytes() for file in (PREDICTIONS, FAILURES)
        )
        print("equal to the undisturbed run" if equal else "DIFFERS from the undisturbed run")
        raise SystemExit(0 if equal else 1)


def _timed(what: str, work: Any) -> None:
    began = time.monotonic()
    progress, worked = work()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    took = time.monotonic() - began
    print(f"{what}: {progress.done} rows, {progress.failed} failed, {len(worked)} worked on, {took:.1f} s, {memory} MB")


if __name__ == "__main__":
    main()
