"""Ray on two nodes: the bytes of the local engine, also when a worker, a model's server and the driver are killed."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from support.batch_samples import start, timeless, write_posts
from support.cli import Cli
from support.forked import get_ready
from support.knowledge_server import Killable, knowledge_of, knowledge_server

pytest.importorskip("ray")
pytestmark = pytest.mark.slow
TEXT_ONLY = ("matcher.backend=off", "tracer.backend=off", "segmenter.backend=off")
CHUNKS = ("ray.chunk=4", "ray.text.cpus=0.6", "ray.llm.cpus=0.6")
"""On nodes of one CPU, the two stages cannot be on the same one."""
GROUPS = ("--together", "4")
"""With the default, all posts are one group, whose rows come at once."""
POSTS = 80


def settings(*assignments: str) -> list[str]:
    return [word for assignment in assignments for word in ("--set", assignment)]


@pytest.fixture(autouse=True)
def _workers_keep_the_priority_of_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's default is 15, which starves them on a busy machine


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[int]]]:
    """Two raylets on this machine's loopback: the address, and their processes."""
    for name in ("USAGE_STATS_ENABLED", "ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "ENABLE_WINDOWS_OR_OSX_CLUSTER"):
        monkeypatch.setenv(f"RAY_{name}", "0")  # the last one: 127.0.0.1 is not taken for the machine's own address
    get_ready()
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    nodes, raylets = Cluster(), list[int]()
    try:
        head = nodes.add_node(node_ip_address="127.0.0.1", **node)
        other = nodes.add_node(node_ip_address="127.0.0.1", **node)
        raylets = [one.all_processes["raylet"][0].process.pid for one in (head, other)]
        assert len(nodes.list_all_nodes()) == 2 and head.address.startswith("127.0.0.1:")
        yield head.address, raylets
    finally:
        left = workers(raylets)
        nodes.shutdown()
        for worker in left:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


def workers(raylets: Collection[int]) -> dict[int, int]:
    """The processes of the stages on these nodes, and each one's node."""
    command = ["ps", "-eo", "pid,ppid,args"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    rows = [line.split(None, 2) for line in found]
    ours = [(int(pid), int(parent)) for pid, parent, name in rows if name.startswith("ray::MapWorker")]
    return {pid: parent for pid, parent in ours if parent in raylets}


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def listed(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "failures.jsonl").read_text("utf-8").splitlines()]


def results(out: Path) -> list[dict[str, Any]]:
    """Predictions; which server refused a post, and at which attempt, is left out of its warning: one of them dies."""
    rows = timeless(out / "predictions.jsonl")
    for warning in (one for row in rows for one in row["warnings"] if one["code"] == "W103"):
        warning.pop("message")
    return rows


def test_ray_engine_with_killed_worker_server_and_driver_equals_local_engine(
    tmp_path: Path, cluster: tuple[str, list[int]], cli: Cli
) -> None:
    address, raylets = cluster
    posts = write_posts(tmp_path / "posts.jsonl", POSTS)
    posts.write_text(posts.read_text() + "no post\n" + json.dumps({"id": "p0001", "text": "twice"}) + "\n")
    local, out = tmp_path / "local", tmp_path / "out"
    # Ray gives an actor as many threads as it has cores, one here; with more the last bits of a score may differ.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with knowledge_server() as one, knowledge_server() as other:
        two = Killable()
        chosen = settings(*knowledge_of(one, two), *TEXT_ONLY, *CHUNKS)
        command: list[str | Path] = [posts, "--out", out, "--engine", "ray", "--address", address, *chosen, *GROUPS]
        driver = start(command)
        # Ray changes a process's title for each task, so that one look may miss a stage: all looks count.
        ours: dict[int, int] = {}
        while (lines(out / "predictions.jsonl") < 8 or {*ours.values()} != {*raylets}) and driver.poll() is None:
            ours |= workers(raylets)
            time.sleep(0.01)
        assert sorted(ours.values()) == sorted(raylets), "a stage on each node"
        while not (alive := workers(raylets)) and driver.poll() is None:
            time.sleep(0.01)
        os.kill(min(alive), signal.SIGKILL)
        assert two.kill() > 0
        while lines(out / "predictions.jsonl") < 40 and driver.poll() is None:
            time.sleep(0.01)
        driver.kill()
        _, said = driver.communicate()
        assert driver.returncode == -signal.SIGKILL, said.decode()
        again = start([*command, "--parquet"])
        ran = cli("batch", posts, "--out", local, *settings(*knowledge_of(one, other), *TEXT_ONLY), *GROUPS)
        assert ran.code == 1, ran.err
        _, said = again.communicate()
        assert again.returncode == 1, said.decode()
    torch.set_num_threads(threads)
    assert results(out) == results(local) and len(results(out)) == POSTS
    assert listed(out) == listed(local) and [one["code"] for one in listed(out)] == ["E103", "E104"]
    manifest, expected = (json.loads((folder / "manifest.json").read_text()) for folder in (out, local))
    assert manifest["resumed"] >= 40 and manifest["status"] == "done"
    for key in ("started", "finished", "seconds", "resumed"):
        manifest.pop(key, None), expected.pop(key, None)
    assert manifest == expected
    assert (out / "predictions.parquet").is_file()


@pytest.mark.parametrize("rows", [0, 4])
def test_ray_driver_after_sigterm_ends_and_resumes(tmp_path: Path, rows: int) -> None:
    posts, out = write_posts(tmp_path / "posts.jsonl", 24), tmp_path / "out"
    command: list[str | Path] = [posts, "--out", out, "--engine", "ray", "--together", "4"]
    command += settings(*TEXT_ONLY, "ray.chunk=4")
    driver, predictions = start(command), out / "predictions.jsonl"
    while not (predictions.exists() and lines(predictions) >= rows) and driver.poll() is None:
        time.sleep(0.01)
    driver.terminate()
    _, printed = driver.communicate()
    # 130; rarely 1, where Ray ends the process in its own shutdown, after the last row has been written.
    assert driver.returncode in (130, 1), printed.decode()
    # A thread of Ray Data that is still at work when Ray has been shut down must not start a second one.
    assert b"Started a local Ray instance" not in printed, printed.decode()
    # Rarely the interrupt meets a generator that is being closed: Python reports it as ignored, and the run stops.
    assert printed.count(b"Traceback") == printed.count(b"Exception ignored in: <generator"), printed.decode()
    assert rows <= lines(predictions) < 24
    if not rows:
        return  # to resume from nothing is to begin
    again = start(command)
    _, printed = again.communicate()
    manifest = json.loads((out / "manifest.json").read_text("utf-8"))
    assert again.returncode == 0 and manifest["status"] == "done", printed.decode()
    assert lines(predictions) == 24 == manifest["rows"]


def test_ray_engine_with_unusable_options_exits_with_reason(cli: Cli, tmp_path: Path) -> None:
    posts = write_posts(tmp_path / "posts.jsonl", 3)
    for given, code, said in (
        (("--engine", "ray", "--address", "127.0.0.1:9"), 3, "E303"),
        (("--address", "127.0.0.1:9"), 2, "--engine ray"),
        (("--engine", "ray", "--only", "masks"), 2, "local engine"),
    ):
        ran = cli("batch", posts, "--out", tmp_path / "out", *given)
        assert ran.code == code and said in ran.err and "Traceback" not in ran.err
