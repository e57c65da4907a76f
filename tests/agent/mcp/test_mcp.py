"""The MCP server as a real process, asked by the SDK's own client: on stdio, and over HTTP with tokens."""

import asyncio
import base64
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client

from namepin.agent.api import Namepin
from namepin.agent.config.settings import load_settings
from namepin.agent.mcp.owners import McpSessions
from namepin.agent.mcp.server import build_server, local
from namepin.tools.errors import NamepinError
from namepin.tools.types import Extraction
from support.cli import Cli
from support.paths import ROOT
from support.processes import Mcp, ask, environment, free_port, running_namepin, stdio

TEXT = "Eileen Collins in front of the Discovery"
PICTURE = ROOT / "examples" / "astronaut.jpg"
DATA = base64.b64encode(PICTURE.read_bytes()).decode()
TOKENS = {"ann": "a" * 20, "bo": "b" * 20, "cy": "c" * 20}


def python(text: str, image: Path | None = None) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        Namepin.from_profile("starter").extract({"id": "post-1", "text": text}, image).to_json()
    )
    return timeless(found)


def timeless(extraction: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in extraction.items() if key != "timings_ms"}


def test_mcp_stdio_calls_return_structured_results_or_coded_errors(tmp_path: Path) -> None:
    async def talk() -> None:
        async with Mcp(stdio(tmp_path, "--images", PICTURE.parent)) as mcp:
            offered = {tool.name: tool for tool in (await mcp.client.list_tools()).tools}
            told = {"extract", "explain", "ground", "segment", "compare"}
            assert set(offered) == told | {"review", "decide"}
            for tool in (offered[name] for name in told):
                assert tool.description and tool.output_schema and "post" in tool.output_schema["properties"]
                assert tool.annotations and tool.annotations.read_only_hint
                assert "call" not in tool.input_schema["properties"]
            assert offered["extract"].input_schema["required"] == ["text"]

            found = await mcp.call("extract", text=TEXT, image=DATA)
            assert not found.is_error and found.structured_content["post"] == "post-1"
            assert timeless(found.structured_content["extraction"]) == python(TEXT, PICTURE)
            assert json.loads(found.content[0].text)["names"][0]["text"] == "Eileen Collins"

            why = await mcp.call("explain", post="post-1", which="Eileen Collins")
            assert "match score" in why.structured_content["words"]
            mask = await mcp.call("segment", post="post-1", which="1")
            assert mask.structured_content["facts"]["pixels"] > 100
            again = Extraction.model_validate(mask.structured_content["extraction"])
            assert again.id == "post-1" and again.entities[0].mask is not None
            box = await mcp.call("segment", post="post-1", box=[10, 10, 80, 80])
            assert box.structured_content["facts"]["mask"]["size"]
            place = await mcp.call("ground", post="post-1", name="Bob Dylan", label="PER")
            assert place.structured_content["facts"]["text"] == "Bob Dylan"
            table = await mcp.call("compare", post="post-1")
            assert "in the picture" in table.structured_content["table"][0]["starter"]

            by_path = await mcp.call("extract", text=TEXT, image_path=PICTURE.name, gamma=3)
            assert by_path.structured_content["post"] == "post-2"
            assert by_path.structured_content["extraction"]["image"] == found.structured_content["extraction"]["image"]
            assert (
                by_path.structured_content["extraction"]["fingerprint"]
                != found.structured_content["extraction"]["fingerprint"]
            )

            for tool, arguments, said in BAD:
                refused = await mcp.call(tool, **arguments)
                assert refused.is_error and said in refused.content[0].text, (tool, arguments, refused)

    asyncio.run(talk())


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("extract", {"text": " "}, "E101"),
    ("extract", {"text": "x" * 9000}, "text"),
    ("extract", {}, "text"),
    ("extract", {"text": "x", "image": "???"}, "E123"),
    ("extract", {"text": "x", "image": base64.b64encode(b"<svg onload=alert(1)>").decode()}, "E123"),
    ("extract", {"text": "x", "image": DATA, "image_path": PICTURE.name}, "E105"),
    ("extract", {"text": "x", "image_path": "/etc/passwd"}, "E128"),
    ("extract", {"text": "x", "image_path": "../README.md"}, "E128"),
    ("extract", {"text": "x", "image_path": "nowhere.jpg"}, "E128"),
    ("extract", {"text": "x", "image_path": "."}, "E128"),
    ("extract", {"text": "x", "image_path": "posts.jsonl"}, "E123"),
    ("extract", {"text": "x", "profile": "/etc/passwd"}, "E200"),
    ("extract", {"text": "x", "gamma": -1}, "gamma"),
    ("explain", {"post": "post-99", "which": "1"}, "E330"),
    ("segment", {"post": "post-1", "box": [90000, 90000, 90010, 90010]}, "outside the picture"),
    ("segment", {"post": "post-1", "box": [1, 2]}, "box"),
]


async def test_mcp_picture_path_outside_folder_raises_e128(tmp_path: Path) -> None:
    allowed, secret = tmp_path / "allowed", tmp_path / "secret.jpg"
    allowed.mkdir()
    secret.write_bytes(PICTURE.read_bytes())
    (allowed / "link.jpg").symlink_to(secret)
    (allowed / "fine.jpg").write_bytes(PICTURE.read_bytes())
    settings = load_settings("starter", overrides={"serve": {"max_body_mb": 1}}, environment={})
    sessions = McpSessions(settings, (), tmp_path / "kept", allowed)
    assert await sessions.picture("me", None, "fine.jpg") is not None
    for path in ("link.jpg", "../secret.jpg", str(secret), "", "a\0b", "x" * 5000):
        with pytest.raises(NamepinError, match="E128"):
            await sessions.picture("me", None, path)
    with pytest.raises(NamepinError, match="E128"):
        await McpSessions(settings, (), tmp_path / "kept").picture("me", None, "fine.jpg")
    (allowed / "large.jpg").write_bytes(bytes(2**20 + 1))
    for large in ({"data": None, "path": "large.jpg"}, {"data": "A" * 2**21, "path": None}):
        with pytest.raises(NamepinError, match="E125"):
            await sessions.picture("me", **large)


def test_mcp_sessions_beyond_bound_forget_oldest_posts(tmp_path: Path) -> None:
    sessions = McpSessions(load_settings("starter", environment={}), (), tmp_path)
    for number in range(30):
        sessions.remember("me", {"extraction": {"id": f"post-{number}"}, "profile": "starter", "overrides": {}})
    sessions.recall("me", "post-29")
    for owner, post in (("me", "post-3"), ("you", "post-29")):
        with pytest.raises(NamepinError, match="E330"):
            sessions.recall(owner, post)


def test_mcp_extract_calls_beyond_waiting_bound_return_e343(tmp_path: Path) -> None:
    settings = load_settings("starter", overrides={"serve": {"at_once": 1, "waiting": 0}}, environment={})
    sessions = McpSessions(settings, (), tmp_path)

    async def crowd() -> list[Any]:
        async with Client(build_server(sessions, local)) as client:
            calls = (client.call_tool("extract", {"text": "Bob Dylan in Oslo"}) for _ in range(3))
            return await asyncio.gather(*calls)

    found = asyncio.run(crowd())
    refused = [answer.content[0].text for answer in found if answer.is_error]
    assert len(refused) == 2 and all("E343" in said for said in refused)


def test_mcp_review_asks_close_decisions_and_accepts_owner_only(tmp_path: Path) -> None:
    sessions = McpSessions(load_settings("starter", environment={}), ("review.match_margin=1",), tmp_path)

    async def talk() -> None:
        async with (
            Client(build_server(sessions, local)) as me,
            Client(build_server(sessions, lambda call: "you")) as you,
        ):
            asked = (await me.call_tool("review", {"text": TEXT, "image": DATA})).structured_content
            assert asked["state"] == "waiting" and asked["questions"][0]["kind"] == "place"
            choices = {"review": asked["review"], "choices": {q["key"]: False for q in asked["questions"]}}
            theirs = await you.call_tool("decide", choices)
            assert theirs.is_error and "E330" in theirs.content[0].text
            wrong = await me.call_tool("decide", choices | {"choices": {}})
            assert wrong.is_error and "E333" in wrong.content[0].text
            done = await me.call_tool("decide", choices)
            found = done.structured_content
            assert found["state"] == "done" and not any(e["groundable"] for e in found["extraction"]["entities"])
            assert json.loads(done.content[0].text)["names"][0]["text"] == "Eileen Collins"
            why = await me.call_tool("explain", {"post": found["post"], "which": "1"})
            assert "review" in why.structured_content["words"]
            assert (await you.call_tool("explain", {"post": found["post"], "which": "1"})).is_error

    asyncio.run(talk())


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    tokens = ",".join(f"{owner}={token}" for owner, token in TOKENS.items())
    env = environment(NAMEPIN_DATA_DIR=str(tmp_path_factory.mktemp("mcp")), NAMEPIN_TOKENS=tokens)
    flags = ["--http", "--set", "serve.per_minute=20"]
    with running_namepin("mcp", *flags, port=free_port(), env=env, cwd=ROOT) as address:
        yield f"{address}/mcp"


def test_mcp_over_http_with_token_equals_python_and_separates_owners(address: str) -> None:
    [found] = ask(address, ("extract", {"text": TEXT, "image": DATA}), token=TOKENS["ann"])
    assert timeless(found.structured_content["extraction"]) == python(TEXT, PICTURE)
    [why] = ask(address, ("explain", {"post": "post-1", "which": "1"}), token=TOKENS["ann"])
    assert not why.is_error, "another connection of the same owner knows the post"
    [theirs] = ask(address, ("explain", {"post": "post-1", "which": "1"}), token=TOKENS["bo"])
    assert theirs.is_error and "E330" in theirs.content[0].text


def test_mcp_over_http_without_valid_token_or_origin_returns_4xx(address: str) -> None:
    post = partial(httpx.post, timeout=None)
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    accept = {"accept": "application/json, text/event-stream"}
    for headers in ({}, {"authorization": "Bearer nobody"}):
        answer = post(address, json=body, headers={**accept, **headers})
        assert answer.status_code == 401 and answer.json()["code"] == "E342"
    token = {**accept, "authorization": f"Bearer {TOKENS['cy']}"}
    for headers, status in (
        ({"host": "evil.example"}, 421),
        ({"origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
    ):
        assert post(address, json=body, headers={**token, **headers}).status_code == status
    assert post(address, content=b"x" * 2**27, headers=token).status_code == 413
    # The bucket refills while it is emptied: a slow machine needs more requests.
    assert any(post(address, json=body, headers=token).status_code == 429 for _ in range(400))


def test_mcp_command_with_unsafe_options_exits_2(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NAMEPIN_TOKENS", raising=False)
    ran = cli("mcp", "--http", "--host", "0.0.0.0")
    assert ran.code == 2 and "E341" in ran.err
    ran = cli("mcp", "--images", tmp_path / "nowhere")
    assert ran.code == 2 and "E128" in ran.err
