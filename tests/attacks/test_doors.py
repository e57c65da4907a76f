"""Attacks on the server over sockets: refused requests, while other clients get answers."""

import base64
import json
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from namepin.agent.config.settings import load_settings
from namepin.agent.server.app import create_app
from namepin.agent.web import routes
from namepin.agent.web.visitors import Visitors
from support.hostile_pictures import jpeg_of_many_scans, slow_jpeg
from support.served import served

TOKENS = {"ann": "a" * 20, "bo": "b" * 20}
BO = {"authorization": f"Bearer {TOKENS['bo']}", "content-type": "application/json"}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    settings = load_settings("starter", environment={})
    app = create_app(settings, tokens=TOKENS, folder=tmp_path_factory.mktemp("attacked"))
    with served(add_doors(app)) as port:
        yield port


def add_doors(app: FastAPI) -> FastAPI:
    """The page's own doors, without Gradio's application."""
    app.state.visitors = Visitors(app.state.namepin.access)
    app.include_router(routes.router)
    return app


def healthy(port: int) -> bool:
    return httpx.get(f"http://127.0.0.1:{port}/api/health", timeout=None).status_code == 200


def opened(port: int, path: str, length: int, *headers: str) -> socket.socket:
    """A request whose body does not come."""
    connection = socket.create_connection(("127.0.0.1", port))
    head = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", f"content-length: {length}", *headers]
    connection.sendall("\r\n".join([*head, "", ""]).encode())
    return connection


def status(connection: socket.socket) -> int:
    return int(connection.makefile("rb").readline().split()[1])


@pytest.mark.parametrize(
    ("path", "length", "code"),
    [
        ("/login", 47 * 2**20, 413),
        ("/login", 2**13, 413),
        ("/api/extract", 47 * 2**20, 401),
        ("/api/batch", 10, 401),
        ("/api/reviews", 10, 401),
        ("/page/pictures", 47 * 2**20, 401),
        ("/page/jobs", 10, 401),
        ("/gradio_api/queue/join", 10, 401),
        ("/nowhere", 10, 401),
    ],
)
def test_server_without_token_returns_4xx_before_reading_body(port: int, path: str, length: int, code: int) -> None:
    with closing(opened(port, path, length)) as connection:
        assert status(connection) == code
    assert healthy(port)


def test_login_with_chunked_body_beyond_bound_returns_413(port: int) -> None:
    with closing(socket.create_connection(("127.0.0.1", port))) as connection:
        head = f"POST /login HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head.encode())
        chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
        connection.sendall(chunk)
        assert status(connection) == 413


def test_server_with_stalled_bodies_answers_other_requests(port: int) -> None:
    """What six did: each takes a large share of the memory for bodies, and stays."""
    ann = f"authorization: Bearer {TOKENS['ann']}"
    stalled = [opened(port, "/api/extract", 2**23, ann) for _ in range(10)]
    for connection in stalled:
        connection.sendall(b" " * 2**20)
    assert healthy(port)
    answer = httpx.post(f"http://127.0.0.1:{port}/api/extract", json={"text": "Oslo"}, headers=BO, timeout=None)
    assert answer.is_success
    for connection in stalled:
        connection.close()


def test_rest_json_of_million_parts_returns_413_unparsed(port: int) -> None:
    for path, body in (
        ("extract", b'{"text": "x", "tokens": [' + b"[]," * 400_000 + b"[]]}"),
        ("extract", b'{"text": "' + b"\\u0041" * 200_000 + b'"}'),
        ("batch", b'{"posts": [' + b"{}," * 1_000_000 + b"{}]}"),
    ):
        answer = httpx.post(f"http://127.0.0.1:{port}/api/{path}", content=body, headers=BO, timeout=None)
        assert (answer.status_code, answer.json()["code"]) == (413, "E108")
    deep = httpx.post(f"http://127.0.0.1:{port}/api/extract", content=b"[" * 50_000, headers=BO, timeout=None)
    assert deep.status_code == 422
    infinite = httpx.post(f"http://127.0.0.1:{port}/api/extract", content=b'{"gamma": NaN}', headers=BO, timeout=None)
    assert infinite.status_code == 422


def test_rest_extract_with_hostile_picture_refuses_or_degrades_post(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from namepin.tools.images import load

    monkeypatch.setattr(load, "DEADLINE_S", 0.01)
    url = f"http://127.0.0.1:{port}/api/extract"
    refused = {"text": "Oslo", "image": base64.b64encode(jpeg_of_many_scans(2500, 3000)).decode()}
    answer = httpx.post(url, json=refused, headers=BO, timeout=None)
    assert (answer.status_code, answer.json()["code"]) == (413, "E125")
    slow = {"text": "Oslo", "image": base64.b64encode(slow_jpeg()).decode()}
    answer = httpx.post(url, json=slow, headers=BO, timeout=None)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "degraded" and answer.json()["warnings"][0]["code"] == "W101"


def test_web_jobs_upload_with_unicode_line_separators_keeps_lines_whole(port: int) -> None:
    cookie = {"cookie": f"namepin_token={TOKENS['bo']}; namepin_session={'s' * 43}"}
    texts = ["Bob\u2028Dylan", "Oslo\x85met", "Ada\u2029Lovelace", "a\x0bb\x0c\x1cc"]
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts[:3])
    lines += json.dumps({"text": texts[3]}) + "\r\n"
    answer = httpx.post(f"http://127.0.0.1:{port}/page/jobs", content=lines.encode(), headers=cookie, timeout=None)
    assert answer.status_code == 200 and answer.json()["posts"] == 4, answer.text


def test_login_attempts_beyond_rate_return_429_for_that_address(tmp_path: Path) -> None:
    settings = load_settings("starter", overrides={"serve": {"per_minute": 3}}, environment={})
    app = create_app(settings, tokens=TOKENS, folder=tmp_path)
    with served(add_doors(app)) as port:
        tries = [httpx.post(f"http://127.0.0.1:{port}/login", data={"token": "x"}, timeout=None) for _ in range(4)]
        assert [answer.status_code for answer in tries] == [401, 401, 401, 429]
        transport = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=transport, timeout=None) as other:
            assert other.post(f"http://127.0.0.1:{port}/login", data={"token": TOKENS["bo"]}).status_code == 303


def test_web_jobs_request_from_other_port_returns_403(port: int) -> None:
    cookie = {"cookie": f"namepin_token={TOKENS['bo']}; namepin_session={'s' * 43}"}
    post = json.dumps({"text": "Oslo"})
    for headers, code in (
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
    ):
        answer = httpx.post(
            f"http://127.0.0.1:{port}/page/jobs", content=post, headers={**cookie, **headers}, timeout=None
        )
        assert answer.status_code == code, answer.text
