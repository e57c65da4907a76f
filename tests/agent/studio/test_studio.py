"""`langgraph dev` as a real process, asked by the real SDK: threads, streams, errors, MCP, and other sites' pages.

At the end all interfaces are compared, including LangGraph's: a post gives the same `Extraction` in each. The processes
of the others have tests of their own.
"""

import ast
import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from langgraph_sdk import get_sync_client
from mcp import Client

from namepin.agent.api import Namepin
from namepin.agent.config.settings import load_settings
from namepin.agent.mcp.owners import McpSessions
from namepin.agent.mcp.server import build_server, local
from namepin.agent.server.app import create_app
from namepin.tools.types import Extraction
from support.cli import Cli
from support.paths import ROOT
from support.processes import ask
from support.served import HOST

TEXT = "Eileen Collins in front of the Discovery"
PICTURE = ROOT / "examples" / "astronaut.jpg"
DATA = base64.b64encode(PICTURE.read_bytes()).decode()
POST = {"id": "post-1", "text": TEXT, "image": DATA}


@pytest.fixture
def client(studio: str) -> Any:
    with get_sync_client(url=studio, api_key=None) as client:
        yield client


def thread(client: Any) -> str:
    return str(client.threads.create()["thread_id"])


def python(post: dict[str, Any], graph: str = "gem", image: Any = None, **overrides: Any) -> dict[str, Any]:
    found = Namepin.from_profile("starter", graph=graph, **overrides).extract(post, image)
    return found.model_dump(exclude={"timings_ms"})


def served(extraction: dict[str, Any]) -> dict[str, Any]:
    return Extraction.model_validate(extraction).model_dump(exclude={"timings_ms"})


@pytest.mark.parametrize("graph", ["gem", "riveg"])
def test_studio_run_streams_steps_and_equals_python(client: Any, graph: str) -> None:
    steps, found = [], None
    for part in client.runs.stream(thread(client), graph, input={"post": POST}, stream_mode=["custom", "values"]):
        assert part.event != "error", part.data
        if part.event == "custom" and part.data["phase"] == "finished":
            steps.append(part.data["step"])
        elif part.event == "values":
            found = part.data["extraction"]
    assert found is not None and served(found) == python({"id": "post-1", "text": TEXT}, graph, PICTURE)
    assert steps[:2] == ["tag", "gate"] and steps[-1] == "assemble"
    assert ("match" in steps) == (graph == "gem")
    assert set(found["timings_ms"]) >= {"tagger"}


def test_studio_thread_with_second_post_drops_first_picture(client: Any) -> None:
    kept = thread(client)
    client.runs.wait(kept, "gem", input={"post": {**POST, "text": f"{TEXT} with Bob Dylan, NASA and Oslo"}})
    found = client.runs.wait(kept, "gem", input={"post": {"text": "Bob Dylan in Oslo"}}, context={"gamma": 3})
    gate = {"gamma": 3}
    assert served(found["extraction"]) == python({"id": "post", "text": "Bob Dylan in Oslo"}, gate=gate)
    state = client.threads.get_state(kept)
    assert state["next"] == [] and len(state["values"]["findings"]) == len(state["values"]["mentions"])
    # The checkpoint from before the first step holds the run's input; no later one holds the picture's bytes.
    with_picture = [at for at in client.threads.get_history(kept, limit=50) if DATA in json.dumps(at["values"])]
    assert len(with_picture) <= 1


def test_studio_run_from_middle_checkpoint_gives_equal_result(client: Any) -> None:
    kept = thread(client)
    first = client.runs.wait(kept, "gem", input={"post": POST})
    middle = next(at for at in client.threads.get_history(kept) if at["next"] == ["segment"])
    again = client.runs.wait(kept, "gem", input=None, checkpoint=middle["checkpoint"])
    assert served(again["extraction"]) == served(first["extraction"])


def test_studio_review_interrupt_resumes_with_answers(client: Any) -> None:
    kept = thread(client)
    client.runs.wait(kept, "gem-review", input={"post": POST})
    [asked] = client.threads.get_state(kept)["interrupts"]
    keys = [question["key"] for question in asked["value"]]
    assert keys[0] == "place:0" and asked["value"][0]["mention"] == "Eileen Collins"
    client.runs.wait(kept, "gem-review", command={"resume": {"place:0": "perhaps"}})
    [again] = client.threads.get_state(kept)["interrupts"]
    assert again["value"] == asked["value"], "what is no answer is asked again"
    found = client.runs.wait(kept, "gem-review", command={"resume": dict.fromkeys(keys, False)})["extraction"]
    plain = python({"id": "post-1", "text": TEXT}, image=PICTURE)
    assert found["fingerprint"] != plain["fingerprint"]
    for entity, before in zip(found["entities"], plain["entities"], strict=True):
        assert entity["groundable"] is False and entity["box"] is None and "review" in entity["provenance"]
        assert entity["label"] == before["label"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"post": {"text": " "}}, "E101"),
        ({"post": {}}, "E103"),
        ({"post": {"text": "x", "path": "/etc/passwd"}}, "E103"),
        ({"post": {"text": "x", "image": "/etc/passwd"}}, "E123"),
        ({"post": {"text": "x", "image": base64.b64encode(b"<svg>").decode()}}, "E123"),
    ],
)
def test_studio_run_with_bad_input_raises_coded_error(client: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        client.runs.wait(thread(client), "gem", input=given)


def test_studio_run_with_negative_gamma_is_refused(client: Any) -> None:
    with pytest.raises(Exception, match="gamma"):
        client.runs.wait(thread(client), "gem", input={"post": POST}, context={"gamma": -1})


PICTURES = [
    {"type": "image", "base64": DATA, "mime_type": "image/jpeg"},
    {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{DATA}"}},
]


@pytest.mark.parametrize("picture", PICTURES, ids=["langchain", "openai"])
def test_studio_chat_with_picture_answers_follow_up(client: Any, picture: dict[str, Any]) -> None:
    kept = thread(client)
    message = {"role": "user", "content": [{"type": "text", "text": TEXT}, picture]}
    found = client.runs.wait(kept, "chat", input={"messages": [message]})
    assert served(found["seen"][-1]["extraction"]) == python({"id": "post-1", "text": TEXT}, image=PICTURE)
    follow_up = {"role": "user", "content": "why is she in the picture?"}
    said = client.runs.wait(kept, "chat", input={"messages": [follow_up]})["messages"]
    assert "match score" in said[-1]["content"] and DATA not in json.dumps(said)


def test_studio_chat_with_address_or_planted_state_ignores_it(client: Any) -> None:
    address = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.jpg"}}
    message = {"role": "user", "content": [{"type": "text", "text": TEXT}, address]}
    with pytest.raises(Exception, match="E126"):
        client.runs.wait(thread(client), "chat", input={"messages": [message]})
    planted = {"extraction": {"id": "post-7"}, "profile": "starter", "overrides": {"tagger": {"weights": "/etc"}}}
    asked = {"messages": [{"role": "user", "content": "explain it"}], "seen": [planted]}
    found = client.runs.wait(thread(client), "chat", input=asked)
    assert "post-7" not in json.dumps(found)


def test_studio_assistants_expose_schemas_and_drawing(client: Any) -> None:
    ids = {assistant["graph_id"]: assistant["assistant_id"] for assistant in client.assistants.search()}
    assert set(ids) == {"gem", "riveg", "mllm", "gem-review", "riveg-review", "mllm-review", "chat"}
    schemas = client.assistants.get_schemas(ids["gem"])
    assert schemas["input_schema"]["required"] == ["post"] and set(schemas["context_schema"]["properties"]) == {"gamma"}
    nodes = {node["id"] for node in client.assistants.get_graph(ids["riveg"])["nodes"]}
    assert {"arrive", "tag", "entail", "ground", "segment", "assemble", "answer"} <= nodes


def test_studio_mcp_endpoint_call_equals_python(studio: str) -> None:
    [found] = ask(f"{studio}/mcp/", ("gem", {"post": {"id": "post-1", "text": TEXT}}))
    # LangGraph's server writes a result as Python prints it.
    said = ast.literal_eval(found.content[0].text)
    assert served(said["extraction"]) == python({"id": "post-1", "text": TEXT})


@pytest.mark.parametrize(("origin", "allowed"), [("https://evil.example", None), ("https://smith.langchain.com", True)])
def test_studio_cors_allows_langsmith_origin_only(studio: str, origin: str, allowed: bool | None) -> None:
    ask_first = {"origin": origin, "access-control-request-method": "POST"}
    answer = httpx.options(f"{studio}/threads", headers=ask_first, timeout=None)
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)


ALL_TEXT = "NASA: Eileen Collins in front of the Discovery \u2728, says Bob Dylan"
WHOLE = {"id": "post-1", "text": ALL_TEXT}


def by_command(cli: Cli, folder: Path) -> Any:
    posts = folder / "posts.jsonl"
    posts.write_text(json.dumps({**WHOLE, "image": str(PICTURE)}))
    return json.loads(cli("extract", "--posts", posts, "--format", "json").out)


def by_rest(folder: Path) -> Any:
    with TestClient(create_app(load_settings("starter", environment={}), folder=folder), HOST) as client:
        return client.post("/api/extract", json={**WHOLE, "image": DATA}).raise_for_status().json()


def by_mcp(folder: Path) -> Any:
    sessions = McpSessions(load_settings("starter", environment={}), (), folder)

    async def go() -> Any:
        async with Client(build_server(sessions, local)) as mcp:
            return await mcp.call_tool("extract", {"text": ALL_TEXT, "image": DATA})

    return asyncio.run(go()).structured_content["extraction"]


def by_langgraph(address: str) -> Any:
    with get_sync_client(url=address, api_key=None) as client:
        return client.runs.wait(None, "gem", input={"post": {**WHOLE, "image": DATA}})["extraction"]


def by_chat(cli: Cli, folder: Path) -> Any:
    saved = folder / "saved.json"
    ran = cli("chat", "--image", PICTURE, stdin=f"{ALL_TEXT}\n\n/save {saved}\n".encode())
    assert ran.code == 0, ran.err
    return json.loads(saved.read_text("utf-8"))


def test_extraction_over_six_interfaces_is_identical(
    cli: Cli, studio: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAMEPIN_DATA_DIR", str(tmp_path))
    python = Namepin.from_profile("starter").extract(WHOLE, PICTURE)
    assert {e.text for e in python.entities} >= {"Eileen Collins", "Bob Dylan"}
    assert [e.mask for e in python.entities if e.groundable] and python.image
    found = {
        "command line": by_command(cli, tmp_path),
        "REST": by_rest(tmp_path / "rest"),
        "MCP": by_mcp(tmp_path / "mcp"),
        "LangGraph SDK": by_langgraph(studio),
        "chat": by_chat(cli, tmp_path),
    }
    for door, row in found.items():
        extraction = Extraction.model_validate(row)
        assert extraction.timings_ms.keys() == python.timings_ms.keys(), door
        assert extraction.model_copy(update={"timings_ms": python.timings_ms}) == python, door
