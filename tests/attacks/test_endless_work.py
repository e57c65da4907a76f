"""A post whose tool computes without an end: the server ends within its time all the same."""

import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import httpx

from support.paths import ROOT
from support.processes import environment, free_port
from support.waiting import wait_until

SERVE = """
import pathlib, threading
from namepin.agent.server import listen
from namepin.tools.tagger.dual import DualTagger
listen.GRACE_S = 0.5
run_tagger = DualTagger.run
def endless(self, requests, media):
    if all(request.text != "Oslo" for request in requests):
        return run_tagger(self, requests, media)  # the server's warm-up
    pathlib.Path("begun").touch()
    threading.Event().wait()
DualTagger.run = endless
from namepin.agent.cli.main import run
run()
"""


def test_server_told_to_stop_ends_although_a_tool_computes_for_ever(tmp_path: Path) -> None:
    port = free_port()
    env = environment(NAMEPIN_DATA_DIR=str(tmp_path / "data"), PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", SERVE, "serve", "--no-page", "--port", str(port), "--set", "matcher.backend=off"]

    def post() -> None:
        while not (tmp_path / "begun").exists():
            with suppress(httpx.ConnectError):
                with suppress(httpx.RemoteProtocolError, httpx.ReadError):
                    httpx.post(f"http://127.0.0.1:{port}/api/extract", json={"text": "Oslo"}, timeout=None)
                return

    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=tmp_path)
        client = threading.Thread(target=post)
        client.start()
        try:
            wait_until(lambda: (tmp_path / "begun").exists() or server.poll() is not None, "a tool computes")
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0, (tmp_path / "log").read_text()
        finally:
            server.kill()
            server.wait()
            client.join()
