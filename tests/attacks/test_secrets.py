"""Keys in the environment and a server that repeats them: no output, log, file or trace holds a key."""

import base64
import itertools
import json
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

from support import forked
from support.langsmith_server import Store, langsmith_server
from support.loopback import JsonHandler, completion, serving
from support.processes import environment

pytestmark = pytest.mark.slow
SECRETS = {
    "OPENAI_API_KEY": "canary-of-the-model-51d2e84b60",
    "LANGSMITH_API_KEY": "canary-of-the-traces-7f3a9c51",
    "HF_TOKEN": "canary-of-the-hub-0a1b2c3d4e5f",
    "NAMEPIN_TOKENS": "ann=canary-of-the-server-0123456789",
    "MY_DB_PASSWORD": "canary-of-a-database-99887766",
}
PASSWORD = "canary-of-an-address-4455"
FORMS = [form for one in (*SECRETS.values(), PASSWORD) for form in (one.encode(), base64.b64encode(one.encode()))]
POST = "Bob Dylan in Oslo"


class Shouting(JsonHandler):
    """Fails in every way, one after the other, and says the key each time."""

    turns: Iterator[int]

    def do_POST(self) -> None:
        asked, key = json.loads(self.body()), self.headers["Authorization"].removeprefix("Bearer ")
        assert key == SECRETS["OPENAI_API_KEY"]
        error = {"error": {"message": f"bad key {key}, Bearer {key}", "code": key, "param": key}}
        turn = next(self.turns) % 6
        if asked.get("stream") and turn not in (1, 4):
            return self.answer(error, 500)
        if turn in (0, 1, 3, 4):
            return self.answer(error, {0: 500, 1: 401, 3: 429, 4: 400}[turn])
        self.answer(completion(json.dumps({"explanation": f"The key is {key}"}) if turn == 2 else f"{key} no JSON"))


@pytest.fixture
def shouting() -> Iterator[str]:
    kind = type("Handler", (Shouting,), {"turns": itertools.count()})
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), kind)) as server:
        yield f"http://127.0.0.1:{server.server_port}/v1"


def clean(folder: Path, *told: bytes) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in files if any(form in path.read_bytes() for form in FORMS)]
    assert not [text for text in told if any(form in text for form in FORMS)]


def namepin(folder: Path, store: Store, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes]:
    traced = {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": store.address, "LOG_LEVEL": "DEBUG"}
    kept = {"NAMEPIN_DATA_DIR": str(folder / "data"), "NAMEPIN_CACHE_DIR": str(folder / "cache")}
    env = environment(**SECRETS, **traced, **kept, OPENAI_LOG="debug")
    process = forked.namepin(*arguments, env=env, cwd=folder, stdin=stdin)
    out, err = process.communicate()
    return process.wait(), out + err


def test_cli_outputs_files_and_traces_contain_no_secret(tmp_path: Path, shouting: str) -> None:
    posts = [{"id": f"p{n}", "text": f"{POST} {n}"} for n in range(6)]
    (tmp_path / "posts.jsonl").write_text("".join(json.dumps(post) + "\n" for post in posts))
    fields = {"model": "m", "base_url": shouting, "retries": 1, "backoff_s": 0.01}
    sets = [part for name, value in fields.items() for part in ("--set", f"knowledge.{name}={value}")]
    lead = [part for name, value in fields.items() for part in ("--set", f"chat.{name}={value}")]
    with langsmith_server() as store:
        runs = [
            namepin(tmp_path, store, "extract", POST, "--out", "one", "--record", "cassette", *sets),
            namepin(tmp_path, store, "batch", "posts.jsonl", "--out", "many", *sets),
            namepin(tmp_path, store, "chat", "--session", "rules", *sets, stdin=POST.encode()),
            namepin(tmp_path, store, "chat", "--session", "led", *sets, *lead, stdin=POST.encode()),
        ]
        sent = [*store.bodies, json.dumps([store.runs, store.sessions]).encode()]
    assert all(code in (0, 1) for code, _ in runs) and b"E312" in runs[-1][1], runs
    assert POST.encode() in sent[-1] and (tmp_path / "many" / "predictions.jsonl").stat().st_size
    assert any(tmp_path.joinpath("cassette").iterdir()) and any(tmp_path.joinpath("data").iterdir())
    clean(tmp_path, *sent, *(said for _, said in runs))


@pytest.mark.parametrize("command", ["extract", "batch", "chat"])
def test_base_url_with_password_is_refused_and_hidden(tmp_path: Path, command: str) -> None:
    (tmp_path / "posts.jsonl").write_text(json.dumps({"id": "a", "text": POST}) + "\n")
    role = "chat" if command == "chat" else "knowledge"
    address = f"http://ann:{PASSWORD}@127.0.0.1:9/v1?key={PASSWORD}"
    given = {"extract": [POST], "batch": ["posts.jsonl", "--out", "many"], "chat": []}[command]
    with langsmith_server() as store:
        sets = ["--set", f"{role}.model=m", "--set", f"{role}.base_url={address}"]
        code, said = namepin(tmp_path, store, command, *given, *sets, stdin=POST.encode())
    assert code == 2 and b"must not carry a user, password or query" in said
    clean(tmp_path, said, *store.bodies)
