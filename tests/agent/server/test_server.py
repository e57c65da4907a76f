"""The REST API: the same results as in Python, access checks, bounds and jobs."""

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from namepin.agent.api import Namepin
from namepin.agent.server.access import Access, Denied, TooMany, check_host, is_loopback, tokens_from_environment
from namepin.agent.server.admission import Admission
from namepin.agent.server.bounds import Bounds, Entry, Pace
from namepin.tools.errors import NamepinError
from support.cli import Cli
from support.rest_client import ANN, PICTURE, POST, TOKENS, make_client


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with make_client(tmp_path_factory.mktemp("server")) as client:
        yield client


def test_rest_extract_equals_python_extract(client: TestClient) -> None:
    answer = client.post("/api/extract", json={**POST, "image": base64.b64encode(PICTURE).decode()})
    assert answer.status_code == 200
    alone = json.loads(Namepin.from_profile("starter").extract(POST, PICTURE).to_json())
    assert {k: v for k, v in answer.json().items() if k not in ("timings_ms", "extra")} == {
        k: v for k, v in alone.items() if k != "timings_ms"
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert client.post("/api/extract", json={**POST, "gamma": 3}).json()["fingerprint"] != alone["fingerprint"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"text": " "}, 400, "E101"),
        ({}, 400, "E103"),
        ({"text": "x", "tokens": ["y"]}, 400, "E103"),
        ({"text": "x", "path": "/etc/passwd"}, 422, "E103"),
        ({"text": "x", "image": "???"}, 400, "E123"),
        ({"text": "x", "image": base64.b64encode(b"<svg onload=alert(1)>").decode()}, 400, "E123"),
        ({"text": "x", "image_url": "https://example.com/a.jpg"}, 400, "E126"),
        ({"text": "x", "image": "", "image_url": "https://example.com/a.jpg"}, 400, "E105"),
        ({"text": "x", "profile": "/etc/passwd"}, 400, "E200"),
        ({"text": "x", "profile": "gem"}, 400, "E200"),
        ({"text": "x", "gamma": -1}, 422, "E103"),
        ({"text": "x" * 30_000}, 422, "E103"),
    ],
)
def test_rest_bad_input_returns_coded_4xx(client: TestClient, body: dict[str, Any], status: int, code: str) -> None:
    answer = client.post("/api/extract", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_rest_body_beyond_bound_returns_413(tmp_path: Path) -> None:
    with make_client(tmp_path, max_body_mb=1) as client:
        assert client.post("/api/extract", content=b"x" * 2**21).status_code == 413
        pieces = (b"x" * 2**16 for _ in range(32))
        assert client.post("/api/extract", content=pieces).status_code == 413


async def test_bounds_with_bodies_beyond_total_return_429() -> None:
    answered, statuses = asyncio.Event(), list[int]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await answered.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    bounds = Bounds(app, lambda scope: Entry("ann", 100), max_held=150)

    async def request(size: int, announced: bool) -> None:
        pieces = [size // 2, size - size // 2]
        headers = [(b"content-length", str(size).encode())] if announced else []

        async def receive() -> Any:
            return {"type": "http.request", "body": bytes(pieces.pop(0)), "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            if "status" in message:
                statuses.append(message["status"])

        await bounds({"type": "http", "method": "POST", "headers": headers}, receive, send)

    first = [asyncio.create_task(request(70, announced=True)) for _ in range(2)]
    await asyncio.sleep(0)
    assert bounds.held.total() == 140
    for announced in (True, False):
        await request(20, announced)
    assert statuses == [429, 429] and bounds.held.total() == 140
    answered.set()
    await asyncio.gather(*first)
    assert statuses[2:] == [200, 200] and bounds.held.total() == 0
    bounds.max_held = bounds.share = 50
    await request(100, announced=True)
    assert statuses[4:] == [200], "one that is alone is taken"


async def test_bounds_leave_room_for_bodies_of_other_owner() -> None:
    answered, statuses = asyncio.Event(), list[int]()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await answered.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    bounds = Bounds(app, lambda scope: Entry(scope["who"], 100), max_held=400, shared=True)

    async def request(who: str) -> None:
        async def receive() -> Any:
            return {"type": "http.request", "body": bytes(60), "more_body": False}

        async def send(message: Any) -> None:
            if "status" in message:
                statuses.append(message["status"])

        await bounds({"type": "http", "method": "POST", "headers": [], "who": who}, receive, send)

    waiting = [asyncio.create_task(request("ann")) for _ in range(7)]
    while len(statuses) < 6:
        await asyncio.sleep(0)
    assert statuses == [429] * 6, "one of 60 bytes is within a quarter of 400"
    waiting.append(asyncio.create_task(request("bo")))
    while bounds.held["bo"] < 60:
        await asyncio.sleep(0)
    answered.set()
    await asyncio.gather(*waiting)
    assert statuses[6:] == [200, 200] and not bounds.held


STALLS, DRIPS, LASTS = Pace(0.05), Pace(0.01, 2**16), Pace(10, 1, 0.0)


@pytest.mark.parametrize(("pace", "pauses"), [(STALLS, [0, 60]), (DRIPS, [0, 0.005, 0.005, 0.005, 60]), (LASTS, [0])])
async def test_bounds_with_stalled_or_dripping_body_return_408(pace: Pace, pauses: list[float]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass

    coming, sent = iter(pauses), list[Any]()

    async def receive() -> Any:
        await asyncio.sleep(next(coming))
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    bounds = Bounds(app, lambda scope: Entry("ann", 100), max_held=400, pace=pace)
    await bounds({"type": "http", "method": "POST", "headers": []}, receive, send)
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"] and not bounds.held


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),
        ({"host": "testserver"}, 400),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "http://localhost:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://localhost"}, 200),
        ({"host": "localhost:80"}, 200),
    ],
)
def test_rest_with_foreign_host_or_origin_is_rejected(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/api/extract", json={"text": "x"}, headers=headers).status_code == status


def test_rest_without_valid_token_returns_401(tmp_path: Path) -> None:
    with make_client(tmp_path, TOKENS) as client:
        for headers in ({}, {"authorization": "Bearer nobody"}, {"authorization": TOKENS["ann"]}):
            answer = client.post("/api/extract", json=POST, headers=headers)
            assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/api/health").status_code == 200
        assert client.post("/api/extract", json=POST, headers=ANN).status_code == 200


def test_admission_beyond_waiting_bound_raises_too_many() -> None:
    async def crowd() -> list[str]:
        admission = Admission(at_once=1, waiting=2, asking=1)

        async def one() -> str:
            try:
                async with admission.turn():
                    await asyncio.sleep(0.01)
                    return "served"
            except TooMany:
                return "busy"

        return await asyncio.gather(*(one() for _ in range(6)))

    assert sorted(asyncio.run(crowd())) == ["busy"] * 3 + ["served"] * 3


async def test_admission_leaves_room_for_posts_of_other_owner() -> None:
    admission, end = Admission(at_once=1, waiting=4, asking=4), asyncio.Event()
    begun, refused = list[str](), list[str]()

    async def post(owner: str) -> None:
        try:
            async with admission.turn(owner) as turn, turn.away():
                begun.append(owner)
                await end.wait()
        except TooMany:
            refused.append(owner)

    posts = [asyncio.create_task(post("ann")) for _ in range(5)]
    while len(refused) + len(begun) < 5:
        await asyncio.sleep(0)
    assert refused == ["ann"] * 3 and begun == ["ann"] * 2
    posts += [asyncio.create_task(post("bo")) for _ in range(2)]
    while len(begun) < 4:
        await asyncio.sleep(0)
    end.set()
    await asyncio.gather(*posts)
    assert begun[2:] == ["bo", "bo"] and refused == ["ann"] * 3 and not admission.asking
    async with admission.turn("ann"):
        assert admission.running == 1


def test_admission_after_cancelled_wait_frees_its_place() -> None:
    async def leave() -> tuple[int, int]:
        admission = Admission(at_once=1, waiting=1, asking=1)
        async with admission.turn():

            async def wait() -> None:
                async with admission.turn():
                    pass

            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        async with admission.turn():
            return admission.waiting, admission.running

    assert asyncio.run(leave()) == (0, 1)


def test_access_rate_beyond_per_minute_bound_raises_until_refill() -> None:
    now = [0.0]
    access = Access(TOKENS, per_minute=60, clock=lambda: now[0])
    for _ in range(60):
        access.count("ann")
    with pytest.raises(TooMany):
        access.count("ann")
    access.count("bo")
    now[0] = 1.01
    access.count("ann")
    with pytest.raises(Denied):
        access.owner_of("a" * 19)


@pytest.mark.parametrize("said", ["ann", "ann=short", "=aaaaaaaaaaaaaaaaaaaa", "a/b=aaaaaaaaaaaaaaaaaaaa"])
def test_tokens_from_environment_with_unusable_value_raises_e340_without_value(said: str) -> None:
    with pytest.raises(NamepinError) as caught:
        tokens_from_environment({"NAMEPIN_TOKENS": said})
    assert caught.value.code == "E340" and "aaaaa" not in str(caught.value)


def test_check_host_beyond_loopback_without_tokens_raises_e341(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NAMEPIN_TOKENS", raising=False)
    for host in ("0.0.0.0", "::", "192.168.0.5", "example.org"):
        assert not is_loopback(host)
        with pytest.raises(NamepinError, match="E341"):
            check_host(host, {})
        check_host(host, TOKENS)
    assert is_loopback("127.0.0.1") and is_loopback("::1") and is_loopback("localhost")
    ran = cli("serve", "--host", "0.0.0.0")
    assert ran.code == 2 and "E341" in ran.err
