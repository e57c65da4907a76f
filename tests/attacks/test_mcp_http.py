"""Attacks on MCP over HTTP."""

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from namepin.agent.config.settings import load_settings
from namepin.agent.mcp.app import create_mcp_app
from namepin.agent.mcp.owners import McpSessions
from namepin.agent.server.access import Access
from support.hostile_pictures import jpeg_of_many_scans, png
from support.served import served

TOKEN = "t" * 20
HEADERS = {
    "accept": "application/json, text/event-stream",
    "content-type": "application/json",
    "authorization": f"Bearer {TOKEN}",
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = load_settings("starter", environment={})
    sessions = McpSessions(settings, (), tmp_path_factory.mktemp("mcp"))
    with served(create_mcp_app(sessions, Access({"ann": TOKEN}, 6000), settings.serve)) as port:
        yield f"http://127.0.0.1:{port}/mcp"


def send(url: str, body: Any, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(url, content=content, headers=HEADERS | headers, timeout=None)


def call(url: str, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    answer: dict[str, Any] = send(url, body).json()
    return answer


def healthy(url: str) -> bool:
    return "tools" in send(url, {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}).json()["result"]


def test_mcp_http_without_token_returns_401_before_reading_body(url: str) -> None:
    port = int(url.split(":")[2].split("/")[0])
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        connection.sendall(f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-length: 50000000\r\n\r\n".encode())
        assert connection.makefile("rb").readline().split()[1] == b"401"
    assert healthy(url)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"[" * 90_000,
        b'{"a":' * 40_000,
        b'{"jsonrpc": "2.0", "id": NaN, "method": "tools/list"}',
        b'{"jsonrpc": "2.0", "id": 1e999, "method": "tools/list"}',
        b'{"jsonrpc": "2.0", "id": {"a": 1}, "method": "tools/list"}',
        b'{"jsonrpc": "2.0", "id": ' + b"9" * 10_000 + b', "method": "tools/list"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "__class__"}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "../extract", "arguments": {}}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "extract", "arguments": []}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": "file:///etc/passwd"}}',
        b'{"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "x"}}',
        b'{"jsonrpc": "2.0", "id": 1, "result": {}}',
        b"[" + b",".join([b'{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'] * 1000) + b"]",
    ],
)
def test_mcp_http_with_invalid_body_returns_error_below_500(url: str, body: bytes) -> None:
    answer = send(url, body)
    assert answer.status_code < 500 and "Traceback" not in answer.text
    if answer.status_code == 200:
        said = answer.json()
        assert "error" in said or said["result"].get("isError"), said
    assert healthy(url)


def test_mcp_http_json_of_million_parts_returns_413(url: str) -> None:
    answer = send(url, b'{"jsonrpc": "2.0", "id": 1, "method": "x", "params": [' + b"[]," * 500_000 + b"[]]}")
    assert (answer.status_code, answer.json()["code"]) == (413, "E108")


@pytest.mark.parametrize("data", [jpeg_of_many_scans(2500, 3000), png((b"tEXt", b""), repeat=3000)])
def test_mcp_extract_with_picture_bomb_returns_e125(url: str, data: bytes) -> None:
    answer = call(url, "extract", {"text": "Oslo", "image": base64.b64encode(data).decode()})
    assert answer["result"]["isError"] and "E125" in answer["result"]["content"][0]["text"]


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("extract", {"text": "Oslo", "image_path": "/etc/passwd"}),
        ("extract", {"text": "Oslo", "image_path": "../../etc/passwd"}),
        ("extract", {"text": "Oslo", "profile": "/etc/passwd"}),
        ("extract", {"text": "Oslo", "gamma": -1}),
        ("extract", {"text": ""}),
        ("explain", {"post": "../../etc/passwd", "which": "1"}),
        ("explain", {"post": "post-999", "which": "1"}),
        ("decide", {"review": "../../../etc", "choices": {}}),
        ("decide", {"review": "0" * 32, "choices": {"x": "y"}}),
        ("segment", {"post": "post-1", "box": [0, 0, 1e308, 1e308]}),
        ("compare", {"post": "post-1", "profiles": ["a"] * 5}),
    ],
)
def test_mcp_call_with_unoffered_arguments_returns_error(url: str, tool: str, arguments: dict[str, Any]) -> None:
    answer = call(url, tool, arguments)
    text = json.dumps(answer)
    assert "error" in answer or answer["result"]["isError"], answer
    assert "root:" not in text and "Traceback" not in text
