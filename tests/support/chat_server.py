"""A chat server on loopback that streams scripted answers, tool calls among them, and keeps what it was asked."""

import json
import threading
from contextlib import AbstractContextManager
from http.server import ThreadingHTTPServer
from typing import Any

from support.loopback import JsonHandler, serving

Call = tuple[str, dict[str, Any]]
"""A tool's name with its arguments."""

Step = str | Call | list[Call]
"""A text, a call, or calls at once."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *script: Step) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.bodies = list(script), list[dict[str, Any]]()
        self.refuses = frozenset[str]()
        """A request that has all of these fields is refused, and takes no step of the script."""
        self.go_on = threading.Event()
        """Cleared, it holds texts back after their first word."""
        self.go_on.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def step(self, body: dict[str, Any]) -> Step:
        """The answer to a request: the script's next step, the last one again and again."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


class Handler(JsonHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.body())
        self.server.bodies.append(body)
        if self.server.refuses and self.server.refuses <= body.keys():
            named = " and ".join(sorted(self.server.refuses))
            return self.answer({"error": {"message": f"Unsupported parameter: {named}"}}, 400)
        said = self.server.step(body)
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for delta in _deltas(said, len(self.server.bodies)):
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [delta]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
            if isinstance(said, str):
                self.server.go_on.wait()
        self.wfile.write(b"data: [DONE]\n\n")


def _deltas(said: Step, number: int) -> list[dict[str, Any]]:
    if isinstance(said, str):
        pieces = [{"index": 0, "delta": {"role": "assistant", "content": word + " "}} for word in said.split()]
        return [*pieces, {"index": 0, "delta": {}, "finish_reason": "stop"}]
    calls = [
        {
            "index": index,
            "id": f"call-{number}-{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for index, (name, arguments) in enumerate(said if isinstance(said, list) else [said])
    ]
    return [
        {"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": calls}},
        {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
    ]


def serve(*script: Step, kind: type[Server] = Server) -> AbstractContextManager[Server]:
    return serving(kind(*script))
