"""A chat server on loopback whose answer depends only on the question.

In a thread of the test, or, to be killed, in a process of its own (`python knowledge_server.py`).
"""

import json
import subprocess
import sys
from contextlib import AbstractContextManager
from http.server import ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.loopback import JsonHandler, completion, serving


class Server(ThreadingHTTPServer):
    """Posts of NASA are refused, those of the White House get no JSON, all others an explanation."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def count(self) -> None:
        self.asked += 1

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed does not read its answer."""


class Handler(JsonHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.count()
        question = self.body().decode()
        status, said = 200, json.dumps({"explanation": "Everybody knows these names."})
        if "NASA and Apple" in question:
            status = 404
        elif "Jolie at the White House" in question:
            said = "a poem"
        self.answer(completion(said), status)


def knowledge_server() -> AbstractContextManager[Server]:
    return serving(Server())


class Killable:
    """The server in a process of its own."""

    def __init__(self) -> None:
        self.process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def kill(self) -> int:
        """SIGKILL; how often it was asked before."""
        self.process.kill()
        return len(self.process.communicate()[0].splitlines())


class Told(Server):
    """Says on standard output what it is asked."""

    def count(self) -> None:
        print("asked", flush=True)


def knowledge_of(*servers: Server | Killable) -> list[str]:
    """The settings that name them."""
    more = json.dumps([server.url for server in servers[1:]])
    given = (
        "backend=chat",
        "model=m",
        f"base_url={servers[0].url}",
        f"servers={more}",
        "retries=1",
        "backoff_s=0.01",
        "cache=false",
    )
    return [f"knowledge.{one}" for one in given]


if __name__ == "__main__":
    with Told() as told:
        print(told.url, flush=True)
        told.serve_forever()
