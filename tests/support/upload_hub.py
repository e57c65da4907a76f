"""A Hugging Face hub on loopback that also takes uploads; what a commit holds can be downloaded from then on."""

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from support.hub_server import Faults, HubServer, _Handler
from support.loopback import serving


class UploadHub(HubServer):
    """Attributes: `created` are the repositories that were asked for; `commits` are the commits' messages."""

    def __init__(self, name: str, token: str) -> None:
        super().__init__(name, {}, Faults(token=token))
        self.RequestHandlerClass = _UploadHandler
        self.created: list[dict[str, Any]] = []
        self.commits: list[str] = []


class _UploadHandler(_Handler):
    server: UploadHub

    def do_POST(self) -> None:
        hub, path, body = self.server, urlsplit(self.path).path.lstrip("/"), self.body()
        hub.requests.append(path)
        if self.headers.get("Authorization") != f"Bearer {hub.faults.token}":
            return self.answer({"error": "Invalid username or password."}, 401)
        api = f"api/models/{hub.name}"
        if path == "api/repos/create":
            hub.created.append(json.loads(body))
            return self.answer({"url": f"{hub.url}/{hub.name}", "name": hub.name, "id": "1"})
        if path == "api/validate-yaml":
            return self.answer({"warnings": [], "errors": []})
        if path == f"{api}/preupload/main":
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        if path == f"{api}/commit/main":
            return self._commit([json.loads(line) for line in body.splitlines()])
        return self.answer({"error": "no"}, 404)

    def _commit(self, lines: list[dict[str, Any]]) -> None:
        hub = self.server
        for line in lines:
            if line["key"] == "header":
                hub.commits.append(line["value"]["summary"])
            elif line["key"] == "file":
                hub.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        url = f"{hub.url}/{hub.name}/commit/{hub.commit}"
        self.answer({"success": True, "commitUrl": url, "commitOid": hub.commit, "hookOutput": ""})


@contextmanager
def upload_hub(name: str, token: str) -> Iterator[UploadHub]:
    """A running hub with one empty repository, which asks for a token."""
    with serving(UploadHub(name, token)) as server:
        yield server
