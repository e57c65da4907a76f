"""A picture whose decoder never ends: the server answers other requests, and stops on SIGTERM."""

import base64
import json
import signal
import threading
from contextlib import suppress
from pathlib import Path

import httpx

from support.forked import Forked
from support.hostile_pictures import jpeg_of_many_scans
from support.odd_servers import endless_pictures
from support.paths import ROOT
from support.processes import environment, free_port
from support.waiting import wait_until


def test_server_on_sigterm_during_endless_decoding_exits_0(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/api"
    env = environment(NAMEPIN_DATA_DIR=str(tmp_path), NAMEPIN_CACHE_DIR=str(tmp_path / "cache"))
    flags = ["serve", "--no-page", "--port", str(port), "--set", "matcher.backend=off"]
    endless = base64.b64encode(jpeg_of_many_scans(8000, 20_000)).decode()

    def post() -> None:
        with suppress(httpx.HTTPError):
            httpx.post(f"{url}/extract", json={"text": "Oslo", "image": endless}, timeout=None)

    def waiting(number: int) -> bool:
        try:
            return bool(httpx.get(f"{url}/health", timeout=None).json()["asking"] == number)
        except httpx.HTTPError:
            return False

    server = Forked(endless_pictures, flags, env=env, cwd=ROOT)
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
        assert server.wait() == 0, server.log.read_text()
    finally:
        server.kill()
        server.communicate()
        for sender in senders:
            if sender.ident:
                sender.join()
    told = json.loads((tmp_path / "jobs" / "local" / accepted / "job.json").read_text())
    assert told["state"] in ("waiting", "running") and told["done"] == 0, "the next server takes it up"
