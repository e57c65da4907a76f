"""A Hugging Face hub on loopback: it serves one repository to the real client, whole or with a fault."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from support.loopback import JsonHandler, serving

COMMIT = "c0ffee" + "0" * 34
LARGE = 4096
"""From this number of bytes on, a file is listed with its sha256, as the hub does for LFS files."""


@dataclass
class Faults:
    """What goes wrong; a test may change it between two runs.

    Attributes:
        cut_after: bytes of a large file after which each connection breaks.
        down_after: number of requests for large files after which the hub answers 503.
        corrupt: path -> the bytes that are served in place of the listed ones.
        status: status of every answer, with the hub's code for the reason.
        token: the token that the repository asks for.
        no_parts: whether requests for a part are answered with the whole file.
        pause: is waited for after `pause_after` bytes of a large file; set it to let the server go on.
    """

    cut_after: int | None = None
    down_after: int | None = None
    corrupt: Mapping[str, bytes] = field(default_factory=dict)
    status: tuple[int, str] | None = None
    token: str | None = None
    no_parts: bool = False
    pause: threading.Event | None = None
    pause_after: int = 100


class HubServer(ThreadingHTTPServer):
    """Attributes: `asked` are the requests for large files as (path, first byte); `requests` counts all."""

    daemon_threads = True

    def __init__(self, name: str, files: Mapping[str, bytes], faults: Faults) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.name, self.files, self.faults = name, dict(files), faults
        self.commit = COMMIT
        self.asked: list[tuple[str, int]] = []
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests."""


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(JsonHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._route(body=False)

    def do_GET(self) -> None:
        self._route(body=True)

    def _route(self, body: bool) -> None:
        hub, path = self.server, urlsplit(self.path).path.lstrip("/")
        hub.requests.append(path)
        if hub.faults.status:
            return self._refuse(*hub.faults.status)
        if hub.faults.token and self.headers.get("Authorization") != f"Bearer {hub.faults.token}":
            return self._refuse(401, "GatedRepo")
        api, resolve = f"api/models/{hub.name}", f"{hub.name}/resolve/"
        if path == api or path in (f"{api}/revision/main", f"{api}/revision/{hub.commit}"):
            return self.answer({"id": hub.name, "sha": hub.commit, "siblings": []})
        if path == f"{api}/tree/{hub.commit}":
            return self.answer([self._entry(name, data) for name, data in hub.files.items()])
        if path.startswith(f"{api}/"):
            return self._refuse(404, "RevisionNotFound")
        if path.startswith(resolve):
            revision, _, name = path.removeprefix(resolve).partition("/")
            if revision != hub.commit:
                return self._refuse(404, "RevisionNotFound")
            if name in hub.files:
                return self._file(name, body)
            return self._refuse(404, "EntryNotFound")
        return self._refuse(404, "RepoNotFound")

    def _entry(self, name: str, data: bytes) -> dict[str, Any]:
        entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data), "oid": git_sha1(data)}
        if len(data) >= LARGE:
            entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        return entry

    def _file(self, name: str, body: bool) -> None:
        hub, faults = self.server, self.server.faults
        listed, served = hub.files[name], faults.corrupt.get(name, hub.files[name])
        large = len(listed) >= LARGE
        start = 0
        if body and large:
            asked = self.headers.get("Range", "bytes=0-")
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            hub.asked.append((name, start))
            if faults.down_after is not None and len(hub.asked) > faults.down_after:
                return self._refuse(503, "")
            start = 0 if faults.no_parts else start
        self.send_response(206 if start else 200)
        etag = hashlib.sha256(listed).hexdigest() if large else git_sha1(listed)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("X-Repo-Commit", hub.commit)
        self.send_header("Content-Length", str(len(served) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(served) - 1}/{len(served)}")
        self.end_headers()
        if body:
            self._send(served[start:], large)

    def _send(self, data: bytes, large: bool) -> None:
        faults = self.server.faults
        if large and faults.pause:
            self.wfile.write(data[: faults.pause_after])
            self.wfile.flush()
            data = data[faults.pause_after :]
            faults.pause.wait()
        if large and faults.cut_after is not None and len(data) > faults.cut_after:
            self.wfile.write(data[: faults.cut_after])
            self.close_connection = True
            return
        self.wfile.write(data)

    def _refuse(self, status: int, code: str) -> None:
        data = json.dumps({"error": "no"}).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def hub_of(name: str, files: Mapping[str, bytes], faults: Faults | None = None) -> Iterator[HubServer]:
    """A running hub."""
    with serving(HubServer(name, files, faults or Faults())) as server:
        yield server
