"""`namepin serve` under attack, on loopback: `python tests/load/attacks.py [--seconds 10] [--json FILE]`.

A server process with two tokens. Each attack runs for so many seconds from several threads, while `/api/health` is
asked again and again and another owner sends posts. Printed for each: what the attackers got, the times of
`/api/health`, the other owner's answers, and the server's memory. At the end SIGTERM comes while a picture is decoded.
"""

import argparse
import base64
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

sys.path.append(str(Path(__file__).parents[1]))

from load import Serve
from support.hostile_pictures import jpeg_of_many_scans, slow_jpeg

TOKENS = {"ann": "a" * 20, "bo": "b" * 20}
ANN, BO = ({"authorization": f"Bearer {TOKENS[name]}", "content-type": "application/json"} for name in ("ann", "bo"))
LARGE = 47 * 2**20
Attack = Callable[[str], int]


def post(path: str, body: bytes, headers: dict[str, str] | None = None) -> Attack:
    """Sends one request and says its status."""
    return lambda url: httpx.post(url + path, content=body, headers=headers or {}, timeout=120).status_code


def stalled(path: str, sent: int, headers: dict[str, str]) -> Attack:
    """Sends a part of a body and stays."""

    def attack(url: str) -> int:
        def body() -> Any:
            for _ in range(sent // 2**16):
                yield b" " * 2**16
            time.sleep(30)
            yield b"x"

        return httpx.post(url + path, content=body(), headers=headers, timeout=120).status_code

    return attack


def picture(data: bytes) -> Attack:
    """Sends a post with a picture."""
    body = json.dumps({"text": "Bob Dylan in Oslo", "image": base64.b64encode(data).decode()}).encode()
    return post("/api/extract", body, ANN)


def attacks() -> dict[str, Attack]:
    """Name -> what each attacker does again and again."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    parts = b"[" + b"[]," * (LARGE // 3) + b"[]]"
    return {
        "nobody": lambda url: time.sleep(0.5) or 0,
        "forms of 47 MB to /login, no token": post("/login", b"token=" + b"&a=b" * (LARGE // 4), form),
        "JSON of 47 MB, no token": post(
            "/api/extract", b"[" + b"[]," * (LARGE // 3) + b"[]]", {**BO, "authorization": "x"}
        ),
        "bodies that stall, one token": stalled("/api/extract", LARGE, ANN),
        "JSON of millions of parts, one token": post("/api/batch", parts, ANN),
        "JPEG of 72 KB with thousands of scans": picture(jpeg_of_many_scans(2500, 3000)),
        "JPEGs just within the bounds": picture(slow_jpeg()),
    }


OTHERS = """
import http.client, json, sys, threading, time
port, over, token = int(sys.argv[1]), time.monotonic() + float(sys.argv[2]), sys.argv[3]
times, statuses = [], {}

def health():
    while time.monotonic() < over:
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("GET", "/api/health")
        assert connection.getresponse().status == 200
        connection.close()
        times.append(time.monotonic() - began)
        time.sleep(0.02)

def posts():
    headers = {"authorization": "Bearer " + token, "content-type": "application/json"}
    while time.monotonic() < over:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("POST", "/api/extract", json.dumps({"text": "Bob Dylan in Oslo"}), headers)
        status = connection.getresponse().status
        connection.close()
        statuses[status] = statuses.get(status, 0) + 1

threads = [threading.Thread(target=health), threading.Thread(target=posts)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps({"times": times, "statuses": statuses}))
"""
"""Those who are not attacked, in a process of their own: what they wait for is not the attackers' work."""


def measure(server: Serve, attack: Attack, seconds: float, attackers: int) -> dict[str, Any]:
    """Run one attack, and what others notice of it."""
    url, over, got = server.url.removesuffix("/api"), time.monotonic() + seconds, Counter[str]()

    def attacking() -> None:
        while time.monotonic() < over:
            try:
                got[str(attack(url))] += 1
            except httpx.HTTPError as error:
                got[type(error).__name__] += 1

    threads = [threading.Thread(target=attacking) for _ in range(attackers)]
    for thread in threads:
        thread.start()
    command = [sys.executable, "-c", OTHERS, str(server.port), str(seconds), TOKENS["bo"]]
    others = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for thread in threads:
        thread.join()
    quantiles = statistics.quantiles(others["times"], n=100, method="inclusive")
    return {
        "attackers": dict(got),
        "health": len(others["times"]),
        "p50_s": round(quantiles[49], 3),
        "p99_s": round(quantiles[98], 3),
        "max_s": round(max(others["times"]), 3),
        "neighbour": others["statuses"],
        **server.memory(),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--attackers", type=int, default=8)
    parser.add_argument("--only", default="", help="Attacks whose name has this part.")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    report: dict[str, Any] = {}
    secrets = {"NAMEPIN_TOKENS": ", ".join(f"{name}={token}" for name, token in TOKENS.items())}
    with tempfile.TemporaryDirectory() as folder, Serve(Path(folder), secrets=secrets) as server:
        warm = picture(slow_jpeg())(server.url.removesuffix("/api"))
        assert warm == 200, server.log.read_text()
        for name, attack in attacks().items():
            if args.only in name:
                report[name] = measure(server, attack, args.seconds, args.attackers)
                print(f"| {name} | " + " | ".join(str(value) for value in report[name].values()) + " |", flush=True)
        with suppress(httpx.HTTPError):
            threading.Thread(target=picture(jpeg_of_many_scans(8000, 16)), args=(server.url[:-4],), daemon=True).start()
        time.sleep(0.3)
        report["SIGTERM"] = server.stop()
        print(report["SIGTERM"])
    if args.json:
        args.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
