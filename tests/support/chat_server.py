"""A chat server on loopback that streams scripted answers, tool calls among them, and keeps what it was asked."""

import json
import threading
from contextlib import AbstractContextManager
from http.server import ThreadingHTTPServer
from typing import Any

from support.loopback import JsonHandler, serving

Step = str | tuple[str, dict[str, Any]]
"""A text, or a tool's name with its arguments."""


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


class Handler(JsonHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.body())
        self.server.bodies.append(body)
        if self.server.refuses and self.server.refuses <= body.keys():
            named = " and ".join(sorted(self.server.refuses))
            return self.answer({"error": {"message": f"Unsupported parameter: {named}"}}, 400)
        script = self.server.script
        said = script.pop(0) if len(script) > 1 else script[0]
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
    name, arguments = said
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"index": 0, "id": f"call-{number}", "type": "function", "function": function}
    return [
        {"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": [call]}},
        {"index": 0, "delta": {}, "finish_reason": "tool_calls"},
    ]


def serve(*script: Step) -> AbstractContextManager[Server]:
    return serving(Server(*script))
