"""As much of LangSmith's HTTP interface as its client needs for data sets and experiments; it keeps what it is sent."""

import json
import re
import uuid
from contextlib import AbstractContextManager
from email import message_from_bytes
from http.server import ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

from support.loopback import JsonHandler, serving

TIME = "2026-01-01T00:00:00+00:00"
TENANT = str(uuid.uuid4())


class Store(ThreadingHTTPServer):
    """The server and what has arrived."""

    daemon_threads = True
    block_on_close = False
    refuse = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock = Lock()
        self.bodies: list[bytes] = []
        self.keys: set[str | None] = set()
        self.datasets: list[dict[str, Any]] = []
        self.examples: dict[str, dict[str, Any]] = {}
        self.attachments: dict[str, tuple[str, bytes]] = {}
        self.sessions: list[dict[str, Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.feedback: list[dict[str, Any]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def keep_examples(self, dataset_id: str, parts: dict[str, tuple[str, bytes]]) -> dict[str, Any]:
        ids = [name for name in parts if "." not in name]
        for example_id in ids:
            body = json.loads(parts[example_id][1])
            self.examples[example_id] = {
                "id": example_id,
                "dataset_id": dataset_id,
                "inputs": json.loads(parts[f"{example_id}.inputs"][1]),
                "outputs": json.loads(parts[f"{example_id}.outputs"][1]),
                "metadata": {**(body.get("metadata") or {}), "dataset_split": [body.get("split", "base")]},
                "created_at": TIME,
                "modified_at": TIME,
            }
        self.attachments |= {name: part for name, part in parts.items() if ".attachment." in name}
        return {"example_ids": ids, "count": len(ids), "as_of": TIME}

    def keep_runs(self, parts: dict[str, tuple[str, bytes]]) -> None:
        for name, (kind, data) in parts.items():
            event, run_id, *field = name.split(".")
            if event == "attachment":
                self.attachments[name] = (kind, data)
            elif event == "feedback":
                self.feedback.append(json.loads(data))
            else:
                run = self.runs.setdefault(run_id, {})
                run.update({field[0]: json.loads(data)} if field else json.loads(data))

    def roots(self) -> list[dict[str, Any]]:
        return [run for run in self.runs.values() if run.get("reference_example_id")]


class Handler(JsonHandler):
    """One request."""

    server: Store
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path, query = self.route()
        if path == "/info":
            flags = {"dataset_examples_multipart_enabled": True}
            batch = {"use_multipart_endpoint": True, "size_limit": 100, "size_limit_bytes": 20_971_520,
                     "scale_up_nthreads_limit": 1, "scale_up_qsize_trigger": 1000}  # fmt: skip
            self.answer({"version": "0.12.0", "instance_flags": flags, "batch_ingest_config": batch})
        elif path == "/datasets":
            self.answer([d for d in self.server.datasets if query.get("name", [d["name"]]) == [d["name"]]])
        elif path == "/examples":
            offset = int(query.get("offset", ["0"])[0])
            self.answer(list(self.server.examples.values())[offset : offset + int(query["limit"][0])])
        elif path.startswith("/sessions"):
            self.answer(self.server.sessions)
        else:
            self.answer({"detail": f"no {path}"}, 404)

    def do_POST(self) -> None:
        path, _ = self.route()
        body = self.body()
        with self.server.lock:
            if self.server.refuse:
                self.answer({"detail": "Forbidden"}, 403)
            elif path == "/datasets":
                made = {**json.loads(body), "id": str(uuid.uuid4()), "created_at": TIME, "modified_at": TIME}
                self.server.datasets.append(made)
                self.answer(made)
            elif found := re.fullmatch(r"/v1/platform/datasets/([^/]+)/examples", path):
                self.answer(self.server.keep_examples(found[1], self.parts(body)))
            elif path == "/sessions":
                made = {"tenant_id": TENANT, "id": str(uuid.uuid4()), **json.loads(body)}
                self.server.sessions.append(made)
                self.answer(made)
            elif path == "/runs/multipart":
                self.server.keep_runs(self.parts(body))
                self.answer({}, 202)
            elif path == "/feedback":
                self.server.feedback.append(json.loads(body))
                self.answer(json.loads(body))
            else:
                self.answer({"detail": f"no {path}"}, 404)

    def do_PATCH(self) -> None:
        path, _ = self.route()
        change = json.loads(self.body())
        with self.server.lock:
            session = next(s for s in self.server.sessions if path.endswith(s["id"]))
            session |= {key: value for key, value in change.items() if value is not None}
            self.answer(session)

    def route(self) -> tuple[str, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        self.server.keys.add(self.headers.get("x-api-key"))
        return parts.path, parse_qs(parts.query)

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.bodies.append(body)
        return body

    def parts(self, body: bytes) -> dict[str, tuple[str, bytes]]:
        """Name -> (media type, content) of a multipart body."""
        assert self.headers.get("Content-Encoding") is None
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        message = message_from_bytes(head + body)
        return {
            str(part.get_param("name", header="content-disposition")): (
                part.get_content_type(),
                part.get_payload(decode=True),
            )
            for part in message.get_payload()
        }


def langsmith_server() -> AbstractContextManager[Store]:
    return serving(Store())
