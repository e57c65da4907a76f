"""A client of the server's REST API, without a network."""

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from namepin.agent.config.settings import load_settings
from namepin.agent.server.app import create_app
from support.paths import ROOT
from support.served import HOST

POST = {"id": "a", "text": "Eileen Collins in front of the Discovery"}
PICTURE = (ROOT / "examples" / "astronaut.jpg").read_bytes()
TOKENS = {"ann": "a" * 20, "bo": "b" * 20}
ANN, BO = ({"authorization": f"Bearer {TOKENS[name]}"} for name in ("ann", "bo"))


def make_client(folder: Path, tokens: dict[str, str] | None = None, **serve: Any) -> TestClient:
    settings = load_settings("starter", overrides={"serve": serve} if serve else {}, environment={})
    return TestClient(create_app(settings, tokens=tokens or {}, folder=folder), HOST, raise_server_exceptions=False)
