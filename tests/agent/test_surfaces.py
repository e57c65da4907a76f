"""One post with its picture through every door gives one and the same `Extraction`; only the durations differ."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import ROOT, Cli
from langgraph_sdk import get_sync_client
from processes import NAMEPIN, ask, environment, free_port, running, stdio

from agent.api import Namepin
from tools.types import Extraction

TEXT = "NASA: Eileen Collins in front of the Discovery \u2728, says Bob Dylan"
POST = {"id": "post-1", "text": TEXT}
PICTURE = ROOT / "examples" / "astronaut.jpg"
DATA = base64.b64encode(PICTURE.read_bytes()).decode()


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder, port = tmp_path_factory.mktemp("rest"), free_port()
    env = environment(NAMEPIN_DATA_DIR=str(folder))
    with running([*NAMEPIN, "serve", "--port", str(port)], port, folder / "log", env, ROOT) as address:
        yield address


def by_command(cli: Cli, folder: Path) -> Any:
    posts = folder / "posts.jsonl"
    posts.write_text(json.dumps({**POST, "image": str(PICTURE)}))
    return json.loads(cli("extract", "--posts", posts, "--format", "json").out)


def by_rest(address: str) -> Any:
    answer = httpx.post(f"{address}/api/extract", json={**POST, "image": DATA}, timeout=60)
    return answer.raise_for_status().json()


def by_mcp(folder: Path) -> Any:
    [found] = ask(stdio(folder), ("extract", {"text": TEXT, "image": DATA}))
    return found.structured_content["extraction"]


def by_langgraph(address: str) -> Any:
    with get_sync_client(url=address, api_key=None) as client:
        return client.runs.wait(None, "gem", input={"post": {**POST, "image": DATA}})["extraction"]


def by_chat(cli: Cli, folder: Path) -> Any:
    saved = folder / "saved.json"
    ran = cli("chat", "--image", PICTURE, stdin=f"{TEXT}\n\n/save {saved}\n".encode())
    assert ran.code == 0, ran.err
    return json.loads(saved.read_text("utf-8"))


def test_six_doors_one_extraction(
    cli: Cli, rest: str, studio: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMEPIN_DATA_DIR", str(tmp_path))
    python = Namepin.from_profile("starter").extract(POST, PICTURE)
    assert {e.text for e in python.entities} >= {"Eileen Collins", "Bob Dylan"}
    assert [e.mask for e in python.entities if e.groundable] and python.image
    found = {
        "command line": by_command(cli, tmp_path),
        "REST": by_rest(rest),
        "MCP": by_mcp(tmp_path),
        "LangGraph SDK": by_langgraph(studio),
        "chat": by_chat(cli, tmp_path),
    }
    for door, row in found.items():
        extraction = Extraction.model_validate(row)
        assert extraction.timings_ms.keys() == python.timings_ms.keys(), door
        assert extraction.model_copy(update={"timings_ms": python.timings_ms}) == python, door
