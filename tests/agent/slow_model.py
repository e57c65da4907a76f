"""A chat server on loopback that answers nothing while it is held up."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


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


class Handler(BaseHTTPRequestHandler):
    server: SlowModel

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        self.server.free.wait(60)
        said = {"explanation": "Everybody knows."}
        if "response_format" in asked:
            schema = asked["response_format"]["json_schema"]["schema"]
            said = {"category": schema["properties"]["category"]["enum"][0]}
        choices = [{"index": 0, "message": {"role": "assistant", "content": json.dumps(said)}, "finish_reason": "stop"}]
        data = json.dumps({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": choices})
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data.encode())

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def slow_model() -> Iterator[SlowModel]:
    with SlowModel() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.free.set()
            server.shutdown()
            thread.join()
