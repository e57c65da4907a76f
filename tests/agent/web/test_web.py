"""The page's routes, without a browser: access rights, blocked routes of Gradio, files of posts."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from PIL import Image

from namepin.agent.server.access import Access, Denied
from namepin.agent.web.visitors import SESSION_COOKIE, TOKEN_COOKIE, Visitors, new_session
from support.paths import ROOT
from support.processes import environment, free_port, running_namepin
from support.waiting import wait_until

PICTURE = (ROOT / "examples" / "astronaut.jpg").read_bytes()
TOKENS = {"ann": "a" * 20, "bo": "b" * 20}


@contextmanager
def server(folder: Path, *flags: str, **env: str) -> Iterator[str]:
    """A process of its own: Gradio leaves event loops open in the one that imports it."""
    known = environment(NAMEPIN_DATA_DIR=str(folder), **env)
    with running_namepin("serve", *flags, port=free_port(), env=known, cwd=folder) as url:
        yield url


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    pytest.importorskip("gradio")
    with server(folder) as url:
        yield url


@pytest.fixture
def ann(address: str) -> Iterator[httpx2.Client]:
    with browser(address) as client:
        yield client


@pytest.fixture
def bo(address: str) -> Iterator[httpx2.Client]:
    with browser(address) as client:
        yield client


def browser(address: str) -> httpx2.Client:
    """A browser of its own, by its cookie."""
    return httpx2.Client(base_url=address, cookies={SESSION_COOKIE: new_session()}, timeout=None)


def test_web_session_starts_at_page_only(address: str) -> None:
    stranger = httpx2.Client(base_url=address, timeout=None)
    assert stranger.post("/page/pictures", content=PICTURE).status_code == 401
    assert stranger.get("/config").status_code == 401
    answer = stranger.get("/")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(SESSION_COOKIE) and "HttpOnly" in cookie and "SameSite=Lax" in cookie
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert stranger.post("/page/pictures", content=PICTURE).status_code == 200
    assert "set-cookie" not in stranger.get("/").headers, "it goes on"
    stranger.close()


def test_web_pictures_of_other_session_return_404(ann: httpx2.Client, bo: httpx2.Client) -> None:
    signed = ann.post("/page/pictures", content=PICTURE).json()["picture"]
    own = ann.get(f"/page/pictures/{signed}.jpg")
    assert own.status_code == 200 and own.headers["content-type"] == "image/jpeg"
    assert own.content != PICTURE, "written anew"
    assert "no-store" in own.headers["cache-control"]
    assert bo.get(f"/page/pictures/{signed}.jpg").status_code == 404
    assert ann.get(f"/page/pictures/{signed[:-32]}{'0' * 32}.jpg").status_code == 404


@pytest.mark.parametrize("data", [b"", b"<svg onload=alert(1)>", b"<html><script>1</script>", PICTURE[:2000]])
def test_web_upload_of_invalid_picture_returns_400(ann: httpx2.Client, folder: Path, data: bytes) -> None:
    kept = set((folder / "pictures").glob("*"))
    answer = ann.post("/page/pictures", content=data, headers={"content-type": "image/png"})
    assert answer.status_code == 400 and re.fullmatch(r"E12\d", answer.json()["code"])
    assert set((folder / "pictures").glob("*")) == kept


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/upload",
        "gradio_api/file=/etc/passwd",
        "gradio_api/file/etc/passwd",
        "file=/etc/passwd",
        "gradio_api/proxy=https://example.com/",
        "gradio_api/run/answer",
        "gradio_api/call/answer",
        "gradio_api/info",
        "gradio_api/vibe-code",
        "gradio_api/component_server",
        "gradio_api/stream/x",
        "gradio_api/runs",
        "monitoring",
        "custom_component/1/a/b/c",
        "static/../../../../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
    ],
)
def test_unused_gradio_routes_return_4xx(ann: httpx2.Client, path: str) -> None:
    assert {ann.get(f"/{path}").status_code, ann.post(f"/{path}", json={}).status_code} <= {403, 404, 405}


def test_web_stream_of_other_session_returns_403(ann: httpx2.Client, bo: httpx2.Client) -> None:
    event = {"data": [], "fn_index": 0, "session_hash": "abcdefghij", "event_data": None}
    assert ann.post("/gradio_api/queue/join", json=event).status_code == 200
    assert bo.post("/gradio_api/queue/join", json=event).status_code == 403
    assert bo.get("/gradio_api/queue/data?session_hash=abcdefghij").status_code == 403
    assert bo.get("/gradio_api/heartbeat/abcdefghij").status_code == 403
    assert ann.post("/gradio_api/queue/join", content=b"x" * 2**19).status_code == 413
    assert ann.post("/gradio_api/queue/join", json=[]).status_code == 403


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    said = ",".join(f"{name}={token}" for name, token in TOKENS.items())
    folder = tmp_path_factory.mktemp("guarded")
    with server(folder, "--set", "serve.per_minute=8", NAMEPIN_TOKENS=said) as url:
        yield url


def test_web_login_with_token_opens_page_and_its_jobs(guarded: str) -> None:
    with httpx2.Client(base_url=guarded, timeout=None) as client:
        assert client.get("/").headers["location"] == "/login"
        assert client.get("/config").status_code == 401
        assert client.post("/page/pictures", content=PICTURE).status_code == 401
        assert "Your token" in client.get("/login").text
        wrong = client.post("/login", data={"token": "<b>" + "c" * 20})
        assert wrong.status_code == 401 and "<b>" not in wrong.text
        assert client.post("/login", data={"token": TOKENS["ann"]}).status_code == 303
        assert client.cookies[TOKEN_COOKIE] == TOKENS["ann"]
        assert client.get("/config").status_code == 200
        job = client.post("/page/jobs", content=b'{"text": "Rotterdam"}').json()["id"]
        over_rest = client.get("/api/jobs", headers={"authorization": f"Bearer {TOKENS['ann']}"}).json()
        assert [found["id"] for found in over_rest] == [job], "the token's jobs, whatever the door"
        other = client.get(f"/api/jobs/{job}", headers={"authorization": f"Bearer {TOKENS['bo']}"})
        assert other.status_code == 404
    assert httpx2.get(f"{guarded}/config", cookies={TOKEN_COOKIE: "x" * 20}, timeout=None).status_code == 401


def test_web_requests_beyond_token_rate_return_429(guarded: str) -> None:
    cookies = {TOKEN_COOKIE: TOKENS["bo"], SESSION_COOKIE: new_session()}
    with httpx2.Client(base_url=guarded, cookies=cookies, timeout=None) as client:
        codes = [client.post("/page/pictures", content=b"").status_code for _ in range(12)]
    assert codes[0] == 400 and codes[-1] == 429


def test_web_job_from_posts_file_belongs_to_its_session(ann: httpx2.Client, bo: httpx2.Client) -> None:
    rows = [{"id": "a", "text": "Norah Jones in Rotterdam"}, {"text": "Eileen Collins"}]
    body = "\ufeff" + "\n\n".join(map(json.dumps, rows))
    job = ann.post("/page/jobs?profile=starter", content=body.encode()).json()

    def lines() -> list[str]:
        return ann.get(f"/page/jobs/{job['id']}.jsonl").text.splitlines()

    wait_until(lambda: len(lines()) == 2, "both rows are done")
    assert [json.loads(line)["id"] for line in lines()] == ["a", "line-3"]
    for rest in (".jsonl", ".csv", ".html", ".zip", "/rows", "/skipped"):
        assert bo.get(f"/page/jobs/{job['id']}{rest}").status_code == 404, rest
    assert ann.get("/api/jobs").json() == [], "everybody's over REST, where there are no tokens: not this browser's"


def test_web_job_picture_is_small_and_belongs_to_its_session(ann: httpx2.Client, bo: httpx2.Client) -> None:
    files = [
        ("files", ("posts.csv", b"text,image\nOslo,me.jpg\n", "text/csv")),
        ("files", ("me.jpg", PICTURE, "image/jpeg")),
    ]
    job = ann.post("/page/jobs", files=files).json()["id"]
    wait_until(lambda: "<img" in ann.get(f"/page/jobs/{job}/rows").text, "the post is done")
    found = re.search(r'<img src="([^"]+)"', ann.get(f"/page/jobs/{job}/rows").text)
    assert found is not None
    small = ann.get(found[1])
    assert small.status_code == 200 and small.headers["content-type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(small.content)).size) == 192
    assert small.headers["cache-control"].startswith("private")
    assert bo.get(found[1]).status_code == 404
    assert ann.get(f"/page/jobs/{job}/pictures/{'0' * 64}.jpg").status_code == 404


@pytest.mark.parametrize(
    ("body", "code", "says"),
    [
        (b"", "E104", "no posts"),
        (b"\xff\xfe", "E103", "line 1: not UTF-8"),
        (b"{", "E103", "line 1: not JSON"),
        (b"[1]", "E103", "line 1: not a JSON object"),
        (b'{"text": "y", "image_path": "/etc/passwd"}', "E103", "line 1: there is no field image_path"),
        (b'{"text": "x", "image": "/etc/passwd"}', "E123", "line 1"),
        (b'{"text": "x", "image_url": "http://127.0.0.1/"}', "E126", "line 1"),
        (b'{"text": " "}', "E101", "line 1"),
        (b"[" * 100_000, "E103", "line 1"),
    ],
)
def test_web_job_from_bad_file_returns_400_with_line(ann: httpx2.Client, body: bytes, code: str, says: str) -> None:
    answer = ann.post("/page/jobs", content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert says in answer.json()["message"]


def test_web_results_of_unknown_id_return_404(ann: httpx2.Client) -> None:
    for kind in ("json", "png", "html"):
        assert ann.get(f"/page/results/r{'0' * 16}.{kind}").status_code == 404


def test_openapi_document_lists_api_paths_only(ann: httpx2.Client) -> None:
    assert all(path.startswith("/api/") for path in ann.get("/api/openapi.json").json()["paths"])


def test_visitors_cookies_identify_owner_and_sign_names() -> None:
    visitors, session = Visitors(Access(TOKENS, 10)), new_session()
    one = visitors.require_known({SESSION_COOKIE: session, TOKEN_COOKIE: TOKENS["ann"]})
    two = visitors.require_known({SESSION_COOKIE: session, TOKEN_COOKIE: TOKENS["bo"]})
    assert one.thread != two.thread and one.jobs_owner == "ann"
    assert session not in repr(one)
    for cookies in ({}, {SESSION_COOKIE: session}, {SESSION_COOKIE: "x", TOKEN_COOKIE: TOKENS["ann"]}):
        with pytest.raises(Denied):
            visitors.require_known(cookies)
    signed = visitors.sign(one, "a")
    assert (visitors.check(one, signed), visitors.check(two, signed)) == ("a", None)
    assert visitors.check(one, "a.é") is None
