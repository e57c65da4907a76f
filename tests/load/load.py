"""`namepin serve` under load, on loopback: `python tests/load/load.py --seconds 300 --clients 64 [--json FILE]`.

Three parts, each with a server process of its own; a table of each for docs/reliability.md is printed at the end:
1. crowd: as many clients as asked for, each sending its next post as soon as it has an answer (a second after a 429).
2. farewell: a job of posts and requests under way when SIGTERM comes; then a new server on the same folder.
3. slow LLM: a crowd whose every post asks a chat server of 20 s an answer, beside posts of the same profile whose
   answers are kept, and posts of a profile that asks nobody.
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
TEXTS = [json.loads(line)["text"] for line in (ROOT / "examples" / "posts.jsonl").read_text("utf-8").splitlines()]
PICTURE = base64.b64encode((ROOT / "examples" / "astronaut.jpg").read_bytes()).decode()
PICTURE_EVERY = 8
TIMEOUT_S = 120


def post(number: int) -> dict[str, Any]:
    """One of the example posts, every eighth with a picture."""
    body: dict[str, Any] = {"id": f"p{number}", "text": f"{TEXTS[number % len(TEXTS)]} {number}"}
    return body | ({"image": PICTURE} if number % PICTURE_EVERY == 0 else {})


def post_of_its_own(number: int) -> dict[str, Any]:
    """A post whose picture, if it has one, no other post has: no cache knows its bytes."""
    body = post(number)
    if "image" in body:  # what follows the end of a JPEG is ignored, but counts as content
        body["image"] = base64.b64encode(base64.b64decode(PICTURE) + str(number).encode()).decode()
    return body


class Serve:
    """A `namepin serve` process that keeps its things in `folder`."""

    def __init__(self, folder: Path, *flags: str, secrets: Mapping[str, str] | None = None) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.folder, self.flags = folder, flags
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "OMP_NUM_THREADS") if name in os.environ}
        command = [
            sys.executable,
            "-c",
            "from namepin.agent.cli.main import run; run()",
            "serve",
            "--port",
            str(self.port),
        ]
        self.log = folder / "serve.log"
        with self.log.open("ab") as log:
            env = kept | {
                "NAMEPIN_DATA_DIR": str(folder),
                "NAMEPIN_CACHE_DIR": str(folder / "cache"),
                **(secrets or {}),
            }
            # The rate of one token is not what is measured.
            many = ("--profile", "starter", "--set", "serve.per_minute=1000000", *flags)
            self.process = subprocess.Popen([*command, *many], stdout=log, stderr=log, env=env, cwd=ROOT)
        self._ready()

    def _ready(self) -> None:
        for _ in range(6000):
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        self.process.kill()
        raise RuntimeError(f"the server does not listen: {self.log.read_text('utf-8', 'replace')[-2000:]}")

    def memory(self) -> dict[str, int]:
        """Resident memory in MB, and threads."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        return {"rss_mb": int(status["VmRSS"].split()[0]) // 1024, "threads": int(status["Threads"])}

    def __enter__(self) -> "Serve":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.stop()

    def stop(self) -> dict[str, float]:
        """SIGTERM; the exit code and the seconds it took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        return {"exit_code": code, "stop_s": round(time.monotonic() - began, 2)}


@dataclass
class Tally:
    """What clients got: statuses, seconds of each 200, and errors of the connection."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def report(self) -> dict[str, Any]:
        """The figures."""
        quantiles = statistics.quantiles(self.seconds, n=100) if len(self.seconds) > 1 else [0.0] * 99
        times = {"p50_s": round(quantiles[49], 3), "p95_s": round(quantiles[94], 3), "p99_s": round(quantiles[98], 3)}
        return {"answers": dict(self.statuses), "connection_errors": dict(self.errors), **times}


Post = Callable[[int], dict[str, Any]]


async def crowd(
    url: str,
    clients: int,
    seconds: float,
    profile: str | None = None,
    next_post: Post = post,
    tally: Tally | None = None,
    pause_s: float = 0,
) -> Tally:
    """Clients that send one post after the other until the time is over, `pause_s` after each answer."""
    tally = tally or Tally()
    numbers, end = iter(range(10**9)), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=clients)

    async def client(http: httpx.AsyncClient) -> None:
        while time.monotonic() < end:
            began = time.monotonic()
            body = next_post(next(numbers)) | ({"profile": profile} if profile else {})
            try:
                answer = await http.post(f"{url}/extract", json=body)
            except httpx.HTTPError as error:
                tally.errors[type(error).__name__] += 1
                await asyncio.sleep(0.5)
                continue
            tally.statuses[answer.status_code] += 1
            if answer.status_code == 200:
                tally.seconds.append(time.monotonic() - began)
            await asyncio.sleep(pause_s if answer.status_code == 200 else max(1, pause_s))

    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    return tally


async def watched(server: Serve, seconds: float, tally: Tally) -> dict[str, Any]:
    """Memory and queue of a server, looked at each second; the largest of every ten seconds, or of every 30th part."""
    sample_s = max(10, seconds / 30)
    over_time, seen, errors = list[dict[str, int]](), list[dict[str, int]](), Counter[str]()
    began = time.monotonic()
    async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
        while (passed := time.monotonic() - began) < seconds:
            await asyncio.sleep(min(1, seconds - passed))
            now = server.memory()
            try:
                health = (await http.get(f"{server.url}/health")).json()
                now |= {key: health[key] for key in ("running", "waiting")}
            except httpx.HTTPError as error:
                errors[type(error).__name__] += 1
            seen.append(now)
            ended = time.monotonic() - began
            if ended >= (len(over_time) + 1) * sample_s or ended >= seconds:
                over_time.append({"s": round(ended), "answers_200": tally.statuses[200], **_largest(seen)})
                seen.clear()
    most = _largest(over_time)
    return {
        "rss_mb_peak": most["rss_mb"],
        "most_waiting": most["waiting"],
        "most_running": most["running"],
        "health_errors": dict(errors),
        "over_time": over_time,
    }


def _largest(rows: list[dict[str, int]]) -> dict[str, int]:
    return {key: max(row.get(key, 0) for row in rows) for key in ("rss_mb", "threads", "running", "waiting")}


def part_crowd(
    server: Serve, clients: int, seconds: float, pause_s: float = 0, next_post: Post = post
) -> dict[str, Any]:
    """Part 1."""
    tally = Tally()

    async def both() -> dict[str, Any]:
        beside = crowd(server.url, clients, seconds, next_post=next_post, tally=tally, pause_s=pause_s)
        figures, _ = await asyncio.gather(watched(server, seconds, tally), beside)
        return figures

    memory = asyncio.run(both())
    figures = {"clients": clients, "seconds": seconds, "load_average": round(os.getloadavg()[0], 1)}
    rate = {"posts_per_s": round(len(tally.seconds) / seconds, 2)}
    return {**figures, **tally.report(), **rate, **memory}


def part_farewell(server: Serve, posts: int = 120, under_way: int = 8) -> dict[str, Any]:
    """Part 2, at the end of which the server is down."""

    async def leave() -> tuple[str, Counter[str], dict[str, float]]:
        async with httpx.AsyncClient(timeout=TIMEOUT_S) as http:
            given = {"posts": [post(n) for n in range(1, posts + 1)]}
            job = (await http.post(f"{server.url}/batch", json=given)).json()
            asked = [
                asyncio.create_task(http.post(f"{server.url}/extract", json=post(n * 8))) for n in range(under_way)
            ]
            while (await http.get(f"{server.url}/health")).json()["running"] == 0:
                await asyncio.sleep(0.02)
            stopped = await asyncio.to_thread(server.stop)
            got = await asyncio.gather(*asked, return_exceptions=True)
        said = (str(a.status_code) if isinstance(a, httpx.Response) else type(a).__name__ for a in got)
        return job["id"], Counter(said), stopped

    job, answers, stopped = asyncio.run(leave())
    results = server.folder / "jobs" / "local" / job / "predictions.jsonl"
    before = results.read_bytes().count(b"\n") if results.exists() else 0
    with Serve(server.folder, *server.flags) as again:
        for _ in range(1200):
            state = httpx.get(f"{again.url}/jobs/{job}", timeout=TIMEOUT_S).json()
            if state["state"] in ("done", "failed"):
                break
            time.sleep(0.1)
        lines = httpx.get(f"{again.url}/jobs/{job}/results", timeout=TIMEOUT_S).text.splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    return {
        "answers_to_requests_under_way": dict(answers),
        **stopped,
        "job_posts_done_at_the_stop": before,
        "job_state_after_restart": state["state"],
        "job_complete_and_in_order": ids == [f"p{n}" for n in range(1, posts + 1)],
    }


class Slow(BaseHTTPRequestHandler):
    """A chat server whose answer takes its time."""

    delay_s = 20.0
    asked = 0

    def do_GET(self) -> None:
        """The models."""
        self._answer({"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "me"}]})

    def do_POST(self) -> None:
        """One completion."""
        self.rfile.read(int(self.headers["Content-Length"]))
        type(self).asked += 1
        time.sleep(self.delay_s)
        message = {"role": "assistant", "content": '{"explanation": "A post."}'}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._answer({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]})

    def _answer(self, said: dict[str, Any]) -> None:
        data = json.dumps(said).encode()
        try:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError:
            pass  # nobody waits for it any more

    def log_message(self, *args: object) -> None:
        """Nothing."""


@contextmanager
def slow_llm(delay_s: float) -> Iterator[str]:
    """Its address."""
    Slow.delay_s, Slow.asked = delay_s, 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def kept_post(number: int) -> dict[str, Any]:
    """One of the example posts, word for word the same each time: its knowledge is kept after the first."""
    return {"id": f"k{number}", "text": TEXTS[number % len(TEXTS)]}


def asking_profile(folder: Path, llm: str) -> Path:
    """The starter profile whose every post asks the chat server at `llm`."""
    profile = folder / "asking.toml"
    starter = (ROOT / "agent" / "profiles" / "starter.toml").read_text("utf-8")
    profile.write_text(f'{starter}\n[knowledge]\nmodel = "m"\nbase_url = "{llm}"\n', "utf-8")
    return profile


def offering(profile: Path) -> tuple[str, str]:
    """The flags of a server that offers it beside its own."""
    return "--set", f'serve.profiles=["{profile}"]'


def part_slow(
    server: Serve, profile: Path, delay_s: float, seconds: float, clients: int = 4, slow_clients: int = 48
) -> dict[str, Any]:
    """Part 3; the server offers `profile`, which asks `slow_llm`."""
    same, other = (str(profile), kept_post), (None, post)

    async def alone_and_beside() -> dict[str, Tally]:
        for number in range(len(TEXTS)):  # both profiles are built, and answers kept
            body = kept_post(number) | {"profile": str(profile)}
            httpx.post(f"{server.url}/extract", json=body, timeout=TIMEOUT_S).raise_for_status()
        await crowd(server.url, clients, 0.5)
        found = {
            "same_profile_alone": await crowd(server.url, clients, seconds, *same),
            "starter_alone": await crowd(server.url, clients, seconds, *other),
        }
        Slow.delay_s = delay_s
        asking = asyncio.create_task(crowd(server.url, slow_clients, 2 * seconds + 1, str(profile)))
        await asyncio.sleep(1)
        found["same_profile_beside"] = await crowd(server.url, clients, seconds, *same)
        found["starter_beside"] = await crowd(server.url, clients, seconds, *other)
        return found | {"that_ask": await asking}

    found = asyncio.run(alone_and_beside())
    given = {"llm_delay_s": delay_s, "clients": clients, "slow_clients": slow_clients}
    return {**given, "asked_of_the_llm": Slow.asked, **{name: tally.report() for name, tally in found.items()}}


def table(part: str, figures: Mapping[str, Any]) -> str:
    """One part's figures as Markdown, to paste."""
    if part == "crowd":
        plain = [(key, value) for key, value in figures.items() if key not in ("over_time", "answers")]
        head = [("answers", ", ".join(f"{count} × {status}" for status, count in sorted(figures["answers"].items())))]
        rows = [list(map(str, row)) for row in (*head, *plain)]
        return f"{_markdown(['', ''], rows)}\n\n{_rows_of(figures['over_time'])}"
    if part == "farewell":
        return _markdown(["", ""], [[key, str(value)] for key, value in figures.items()])
    return _rows_of([{"posts": name, **row} for name, row in figures.items() if isinstance(row, dict)])


def _rows_of(rows: list[dict[str, Any]]) -> str:
    return _markdown(list(rows[0]), [[str(value) for value in row.values()] for row in rows])


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def main() -> None:
    """All three, as JSON, and as tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--pause", type=float, default=0, help="seconds from a crowd's answer to its next post")
    parser.add_argument("--own-pictures", action="store_true", help="no two posts of the crowd share a picture")
    parser.add_argument("--llm-delay", type=float, default=20)
    parser.add_argument("--part", choices=("crowd", "farewell", "slow_llm"), help="one alone")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    next_post = post_of_its_own if asked.own_pictures else post
    report: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    with slow_llm(0) as llm, tempfile.TemporaryDirectory(prefix="namepin-load-") as folder:
        profile = asking_profile(Path(folder), llm)
        seconds = min(asked.seconds, 30)
        parts: dict[str, Callable[[Serve], dict[str, Any]]] = {
            "crowd": lambda server: (
                part_crowd(server, asked.clients, asked.seconds, asked.pause, next_post) | server.stop()
            ),
            "farewell": part_farewell,
            "slow_llm": lambda server: part_slow(server, profile, asked.llm_delay, seconds),
        }
        for name, part in parts.items():
            if asked.part not in (None, name):
                continue
            (own := Path(folder, name)).mkdir()
            with Serve(own, *(offering(profile) if name == "slow_llm" else ())) as server:
                report[name] = part(server)
            print(json.dumps({name: report[name]}, indent=1), flush=True)
            if asked.json:
                asked.json.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    for name in parts:
        if name in report:
            print(f"\n{name}\n\n{table(name, report[name])}")


if __name__ == "__main__":
    main()
