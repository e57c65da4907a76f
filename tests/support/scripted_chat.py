"""A chat server on loopback that answers from a script, and keeps what it was asked."""

import json
from contextlib import AbstractContextManager
from http.server import ThreadingHTTPServer
from typing import Any

from support.loopback import JsonHandler, completion, serving


class Server(ThreadingHTTPServer):
    """Answers with the next line of its script; the last one again and again. `503` is that status."""

    daemon_threads = True

    def __init__(self, *script: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.bodies = list(script), list[dict[str, Any]]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def answer_to(self, body: dict[str, Any]) -> str:
        """The answer to a request."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class Handler(JsonHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.bodies.append(json.loads(self.body()))
        said = self.server.answer_to(self.server.bodies[-1])
        self.answer(completion(said), 503 if said == "503" else 200)


def serve(*script: str, kind: type[Server] = Server) -> AbstractContextManager[Server]:
    return serving(kind(*script))
