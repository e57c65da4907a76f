"""Benchmarks of a batch: its speed against `extract` in a loop, and its memory. Each side is a separate process."""

import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from namepin.agent.bench.registry import a_picture

_NAMES = ("Eileen Collins", "Rotterdam", "NASA", "Harbour Jazz Festival", "Chicago Bulls", "Taylor Swift")
_SAID = ("so proud of {} tonight", "{} was great !", "thinking about {} again", "{} with {}", "{} beat {} 3 - 1")

_LOOP = """
import json, sys
from namepin import Namepin
pin = Namepin.from_profile("starter")
for line in open(sys.argv[1]):
    row = json.loads(line)
    print(pin.extract({"id": row["id"], "text": row["text"]}, image=f"{sys.argv[2]}/{row['image']}").id)
"""


def bench_batch(posts: int = 500) -> dict[str, float]:
    """Posts per second of `namepin batch` and of `extract` in a loop, on the same posts with pictures, starter profile.

    Both are whole processes, loading included. `busy` is the share of the cores' time that the batch's processes used.
    The goal is 1.5 times as many posts per second, or nine tenths of the cores, whichever is nearer.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = write_posts(root, posts, pictures=True)
        in_loop, _ = _time([sys.executable, "-c", _LOOP, str(source), str(root)])
        in_batch, busy = _time(_batch(source, root / "out"))
        assert len((root / "out" / "predictions.jsonl").read_bytes().splitlines()) == posts
    return {
        "loop_posts_per_s": posts / in_loop,
        "batch_posts_per_s": posts / in_batch,
        "speedup": in_loop / in_batch,
        "busy": busy,
        "share_of_goal": max(in_loop / in_batch / 1.5, busy / 0.9),
        "posts": float(posts),
    }


def bench_memory(few: int = 1000, many: int = 100_000) -> dict[str, float]:
    """Peak memory of `namepin batch`, for few and for many text posts."""
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, count in (("few", few), ("many", many)):
            source = write_posts(root, count, pictures=False)
            peaks[name] = _peak_gib(_batch(source, root / name))
            assert sum(1 for _ in (root / name / "predictions.jsonl").open("rb")) == count
    growth = peaks["many"] / peaks["few"] - 1
    return {"few_gib": peaks["few"], "many_gib": peaks["many"], "growth": growth, "posts": float(many)}


def write_posts(root: Path, count: int, *, pictures: bool) -> Path:
    """A batch input of made-up posts; all posts and all pictures differ."""
    rng = random.Random(3)
    source = root / f"posts-{count}.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for number in range(count):
            output = rng.choice(_SAID)
            text = output.format(*rng.sample(_NAMES, output.count("{}"))) + f" #{number}"
            row = {"id": str(number), "text": text, "image": f"{number}.jpg" if pictures else None}
            if pictures:
                (root / f"{number}.jpg").write_bytes(a_picture(number % 200, (640, 448), number))
            file.write(json.dumps(row) + "\n")
    return source


def _batch(source: Path, out: Path) -> list[str]:
    command = "import sys; from namepin.agent.cli.main import main; sys.exit(main(sys.argv[1:]))"
    return [sys.executable, "-c", command, "batch", str(source), "--out", str(out), "--profile", "starter"]


def _time(command: list[str]) -> tuple[float, float]:
    """Wall seconds, and the share of all cores' time that the process and its children used."""
    from namepin.evals.bench.harness import machine

    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, used / wall / int(machine()["cores"])


def _peak_gib(command: list[str]) -> float:
    """The largest resident memory of one process of the command, in GiB."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, capture_output=True); "
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    output = subprocess.run([sys.executable, "-c", script, *command], check=True, capture_output=True, text=True).stdout
    return int(output) / (2**30 if sys.platform == "darwin" else 2**20)
