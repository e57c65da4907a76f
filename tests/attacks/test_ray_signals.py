"""Signals to `namepin batch --engine ray`: what is on its way is finished, and the rest is done by the same command."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.batch_samples import timeless, write_posts
from support.processes import NAMEPIN, environment

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
TEXT_ONLY = [word for role in ("matcher", "tracer", "segmenter") for word in ("--set", f"{role}.backend=off")]
SMALL_CHUNKS = ("--set", "ray.chunk=4")
POSTS = 400


def scheduler(process: "subprocess.Popen[bytes]") -> None:
    """SIGTERM to the driver alone."""
    process.terminate()


def keyboard(process: "subprocess.Popen[bytes]") -> None:
    """Ctrl-C reaches every process of the terminal's group, Ray's own ones too."""
    os.killpg(process.pid, signal.SIGINT)


def rows(out: Path) -> int:
    found = out / "predictions.jsonl"
    return found.read_bytes().count(b"\n") if found.exists() else 0


def of_group(group: int) -> list[str]:
    """The processes of a group or session that still run."""
    listed = subprocess.run(["ps", "-eo", "pgid,sess,stat,args"], capture_output=True, text=True, check=True).stdout
    fields = [line.split(None, 3) for line in listed.splitlines()[1:]]
    return [args for pgid, session, state, args in fields if str(group) in (pgid, session) and state[0] != "Z"]


@pytest.mark.parametrize("signalled", [scheduler, keyboard])
def test_batch_on_ray_after_a_signal_stops_and_resumes(
    signalled: Callable[["subprocess.Popen[bytes]"], None], tmp_path: Path
) -> None:
    posts, out = write_posts(tmp_path / "posts.jsonl", POSTS), tmp_path / "out"
    command = ["batch", posts, "--out", out, "--engine", "ray", *TEXT_ONLY, *SMALL_CHUNKS]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            [*NAMEPIN, *map(str, command)], stdout=said, stderr=said, env=environment(), start_new_session=True
        )
        try:
            while rows(out) < 8 and process.poll() is None:
                time.sleep(0.01)
            signalled(process)
            code = process.wait()
        finally:
            process.kill()
    words = (tmp_path / "said").read_text("utf-8")
    assert code == 130 and "goes on from here" in words and "Traceback" not in words, words
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert manifest["status"] == "stopped" and 8 <= manifest["rows"] == rows(out) < POSTS
    assert of_group(process.pid) == [], "Ray's processes end with the driver"
    for folder in (out, tmp_path / "whole"):
        local = ["batch", posts, "--out", folder, *TEXT_ONLY]
        subprocess.run([*NAMEPIN, *map(str, local)], env=environment(), check=True)
    assert timeless(out / "predictions.jsonl") == timeless(tmp_path / "whole" / "predictions.jsonl")
