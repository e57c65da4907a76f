"""A chat server on loopback that answers nothing while it is held up."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer

from support.loopback import JsonHandler, completion, serving


class SlowModel(ThreadingHTTPServer):
    """`free` is set while it answers: with an explanation, or with a reranker's first candidate."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.free = 0, threading.Event()
        self.free.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has ended does not read its answer."""


class Handler(JsonHandler):
    server: SlowModel

    def do_POST(self) -> None:
        asked = json.loads(self.body())
        self.server.asked += 1
        self.server.free.wait()
        said = {"explanation": "Everybody knows."}
        if "response_format" in asked:
            schema = asked["response_format"]["json_schema"]["schema"]
            said = {"category": schema["properties"]["category"]["enum"][0]}
        self.answer(completion(json.dumps(said)))


@contextmanager
def slow_model() -> Iterator[SlowModel]:
    with serving(SlowModel()) as server:
        try:
            yield server
        finally:
            server.free.set()
