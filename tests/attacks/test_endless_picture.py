"""A picture whose decoder never ends: the server answers other requests, and stops on SIGTERM."""

import base64
import json
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx

from support.hostile_pictures import jpeg_of_many_scans
from support.paths import ROOT
from support.processes import environment, free_port
from support.waiting import wait_until

SERVE = """
from namepin.agent.server import listen
from namepin.tools.images import load
listen.GRACE_S = 0.5
load.DEADLINE_S = 3600.0
load.check_header = lambda data, max_pixels: False  # as if the bounds had missed it
from namepin.agent.cli.main import run
run()
"""


def test_a_server_ends_as_done_whatever_is_being_decoded(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = environment(NAMEPIN_DATA_DIR=str(tmp_path), NAMEPIN_CACHE_DIR=str(tmp_path / "cache"))
    command = [sys.executable, "-c", SERVE, "serve", "--no-page", "--port", str(port), "--set", "matcher.backend=off"]
    endless = base64.b64encode(jpeg_of_many_scans(8000, 20_000)).decode()

    def post() -> None:
        with suppress(httpx.HTTPError):
            httpx.post(f"{url}/extract", json={"text": "Oslo", "image": endless}, timeout=None)

    def waiting(number: int) -> bool:
        try:
            return bool(httpx.get(f"{url}/health", timeout=None).json()["asking"] == number)
        except httpx.HTTPError:
            return False

    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=ROOT)
        senders = [threading.Thread(target=post) for _ in range(6)]
        try:
            wait_until(lambda: waiting(0), "the server answers")
            job = {"posts": [{"id": "a", "text": "Oslo", "image": endless}]}
            accepted = httpx.post(f"{url}/batch", json=job, timeout=None).json()["id"]
            for sender in senders:
                sender.start()
            wait_until(lambda: waiting(6), "six pictures are being decoded, or wait for that")
            answer = httpx.post(f"{url}/extract", json={"text": "Bob Dylan in Oslo"}, timeout=None)
            assert answer.status_code == 200, "more than the turns there are, and none of them is taken"
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0, (tmp_path / "log").read_text()
        finally:
            server.kill()
            server.wait()
            for sender in senders:
                if sender.ident:
                    sender.join()
    told = json.loads((tmp_path / "jobs" / "local" / accepted / "job.json").read_text())
    assert told["state"] in ("waiting", "running") and told["done"] == 0, "the next server takes it up"
