"""The chat client against a scripted server on loopback that serves faults, and one plain answer after them.

Real answers come from a real model: tests/tools/knowledge/test_chat.py.
"""

import asyncio
import json
import socket
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from PIL import Image
from pydantic import ValidationError

from namepin.tools.captioner.chat import ChatCaptioner
from namepin.tools.captioner.config import CaptionerConfig
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.interfaces import CaptionRequest, KnowledgeRequest
from namepin.tools.knowledge.chat import ChatKnowledge
from namepin.tools.knowledge.config import KnowledgeConfig
from namepin.tools.llm.client import Ask, ChatClient, Reply
from namepin.tools.llm.config import ChatConfig
from namepin.tools.llm.servers import servers_of
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from support.loopback import serving
from support.waiting import PATIENCE_S

SECRET = "sk-very-secret-1234567890"


class Handler(BaseHTTPRequestHandler):
    """Serves the next fault of the server's script; the last one again and again."""

    server: "Faults"

    def do_POST(self) -> None:
        self.server.enter(self)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.requests.append((time.monotonic(), self.path, dict(self.headers), body))
            script = self.server.script
            fault = script.pop(0) if len(script) > 1 else script[0]
        try:
            fault(self)
        except OSError:
            pass  # the client has hung up, as it should
        finally:
            self.server.leave()

    def send(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("content-length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


Fault = Callable[[Handler], None]


class Faults(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: list[Fault] = []
        self.requests: list[tuple[float, str, dict[str, str], dict[str, Any]]] = []
        self.lock, self.released = threading.Lock(), threading.Event()
        self.inside = self.most_inside = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def enter(self, handler: Handler) -> None:
        with self.lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)

    def leave(self) -> None:
        with self.lock:
            self.inside -= 1


@pytest.fixture
def server() -> Iterator[Faults]:
    with serving(Faults()) as faults:
        yield faults
        faults.released.set()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # must play no part on loopback


def answer(handler: Handler, text: str | None = "fine", finish: str = "stop") -> None:
    message = {"role": "assistant", "content": text}
    completion = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
    handler.send(200, json.dumps(completion).encode())


def status(number: int, message: str = "sorry", code: str | None = None, **headers: str) -> Fault:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return lambda handler: handler.send(number, body, **headers)


def body(content: bytes) -> Fault:
    return lambda handler: handler.send(200, content)


def hang(handler: Handler) -> None:
    handler.server.released.wait()


def drip(handler: Handler) -> None:
    """A byte now and then: no single read takes long, the whole would take for ever."""
    handler.send(200, b"", length=1000)
    while not handler.server.released.wait(0.05):
        handler.wfile.write(b" ")


def cut(handler: Handler) -> None:
    handler.send(200, b'{"id": "1", "cho', length=1000)


def config(server: Faults, **changes: Any) -> ChatConfig:
    given: dict[str, Any] = {
        "model": "m", "base_url": server.url, "timeout_s": 600, "retries": 2, "backoff_s": 0.02, "backoff_max_s": 1
    }  # fmt: skip
    return ChatConfig(**given | changes)


def ask_once(client: ChatClient) -> Reply | ToolUnavailable:
    def work(ask: Ask, item: str) -> Awaitable[Reply]:
        return ask([HumanMessage(item)])

    return client.map(work, ["hello"])[0]


def test_chat_client_request_has_expected_path_headers_and_body(server: Faults) -> None:
    server.script = [answer]
    reply = ask_once(ChatClient(config(server, max_tokens=77, seed=5, json_mode=True), "knowledge"))
    assert reply == Reply(text="fine", prompt_tokens=3, completion_tokens=2)
    (_, path, headers, sent), *rest = server.requests
    assert not rest and path == "/v1/chat/completions"
    assert {name.lower(): value for name, value in headers.items()}["authorization"] == f"Bearer {SECRET}"
    assert sent["messages"] == [{"role": "user", "content": "hello"}]
    assert (sent["model"], sent["temperature"], sent["seed"]) == ("m", 0, 5)
    assert sent.get("max_completion_tokens", sent.get("max_tokens")) == 77
    assert sent["response_format"] == {"type": "json_object"}


PASSING: dict[str, Fault] = {
    "429": status(429),
    "500": status(500),
    "503": status(503),
    "body is not JSON": body(b"<html>"),
    "body is other JSON": body(b'{"hello": 1}'),
    "body is null": body(b"null"),
    "no choices": body(b'{"choices": []}'),
    "cut in the middle": cut,
}


@pytest.mark.parametrize("name", PASSING)
def test_chat_client_with_transient_fault_retries_and_answers(server: Faults, name: str) -> None:
    server.script = [PASSING[name], PASSING[name], answer]
    reply = ask_once(ChatClient(config(server), "knowledge"))
    assert isinstance(reply, Reply) and reply.text == "fine"
    assert len(server.requests) == 3


@pytest.mark.parametrize("name", PASSING)
def test_chat_client_with_lasting_fault_raises_e300_after_retries(server: Faults, name: str) -> None:
    server.script = [PASSING[name]]
    failure = ask_once(ChatClient(config(server), "knowledge"))
    assert isinstance(failure, ToolUnavailable) and failure.tool == "knowledge" and failure.code == "E300"
    assert len(server.requests) == 3 and "3 of 3 attempts" in failure.what
    assert SECRET not in "".join(traceback.format_exception(failure))


def test_chat_client_retry_waits_double_with_jitter(server: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = [status(500)]
    waits: list[float] = []
    sleep = asyncio.sleep

    async def noted(seconds: float) -> None:
        waits.extend([seconds] if seconds else [])
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", noted)
    for _ in range(3):
        servers_of.cache_clear()  # as three processes, which do not know of each other's failures
        ask_once(ChatClient(config(server, backoff_s=0.2, backoff_max_s=0.7, retries=3), "knowledge"))
    assert len(waits) == 9 == len(set(waits))
    for i, (low, high) in enumerate([(0.1, 0.2), (0.2, 0.4), (0.35, 0.7)] * 3):
        assert low <= waits[i] <= high


def test_chat_client_waits_for_retry_after(server: Faults) -> None:
    server.script = [status(429, retry_after="0.4"), answer]
    assert isinstance(ask_once(ChatClient(config(server), "knowledge")), Reply)
    assert server.requests[1][0] - server.requests[0][0] >= 0.4


def test_chat_client_with_retry_after_beyond_bound_does_not_retry(server: Faults) -> None:
    server.script = [status(429, retry_after="3600")]
    failure = ask_once(ChatClient(config(server), "knowledge"))
    assert isinstance(failure, ToolUnavailable) and len(server.requests) == 1


@pytest.mark.parametrize("fault", [hang, drip])
def test_chat_client_with_hanging_server_times_out(server: Faults, fault: Fault) -> None:
    server.script = [fault]
    failure = ask_once(ChatClient(config(server, timeout_s=0.5, retries=1), "knowledge"))
    assert isinstance(failure, ToolUnavailable) and "no answer in time" in failure.what
    assert "2 of 2 attempts" in failure.what
    assert not server.released.is_set(), "the server would hang for ever"


@pytest.mark.parametrize("code", [400, 401, 403, 404, 422])
def test_chat_client_with_4xx_answer_does_not_retry_and_hides_key(server: Faults, code: int) -> None:
    server.script = [status(code, f"no such model, and your key is {SECRET}")]
    failure = ask_once(ChatClient(config(server), "knowledge"))
    assert isinstance(failure, ToolUnavailable) and len(server.requests) == 1
    assert f"status {code}" in failure.what
    assert SECRET not in "".join(traceback.format_exception(failure)) + repr(failure.__cause__)


def test_chat_client_without_credit_does_not_retry(server: Faults) -> None:
    server.script = [status(429, code="insufficient_quota")]
    failure = ask_once(ChatClient(config(server), "knowledge"))
    assert isinstance(failure, ToolUnavailable) and "credit" in failure.mend and len(server.requests) == 1


def test_chat_client_without_listening_server_raises_no_connection() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but not listening: connections are refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        failure = ask_once(ChatClient(ChatConfig(model="m", base_url=url, retries=1, backoff_s=0.01), "captioner"))
    assert isinstance(failure, ToolUnavailable) and failure.tool == "captioner"
    assert "no connection" in failure.what


def test_chat_client_map_respects_concurrency(server: Faults) -> None:
    three = threading.Barrier(3, timeout=PATIENCE_S)

    def together(handler: Handler) -> None:
        three.wait()
        answer(handler)

    server.script = [together]
    client = ChatClient(config(server, concurrency=3, retries=0), "knowledge")

    def work(ask: Ask, item: int) -> Awaitable[Reply]:
        return ask([HumanMessage(str(item))])

    assert all(isinstance(reply, Reply) for reply in client.map(work, range(9)))
    assert server.most_inside == 3


def test_chat_client_map_with_one_failure_keeps_other_answers(server: Faults) -> None:
    server.script = [status(404), answer]
    client = ChatClient(config(server, concurrency=1), "knowledge")
    replies = client.map(lambda ask, item: ask([HumanMessage(item)]), ["a", "b"])
    assert isinstance(replies[0], ToolUnavailable) and isinstance(replies[1], Reply)


async def test_chat_client_inside_running_loop_answers(server: Faults) -> None:
    server.script = [answer]
    assert isinstance(ask_once(ChatClient(config(server), "knowledge")), Reply)


def knowledge(server: Faults, folder: Path) -> ChatKnowledge:
    given = config(server).model_dump()
    return ChatKnowledge(KnowledgeConfig(**given, cache_dir=folder))


def test_chat_knowledge_with_two_garbage_answers_raises_tool_unavailable(server: Faults, tmp_path: Path) -> None:
    server.script = [lambda handler: answer(handler, "I would rather write a poem.")]
    tool = knowledge(server, tmp_path)
    with pytest.raises(ToolUnavailable, match="two answers in a row are unusable: it holds no JSON object"):
        tool.run([KnowledgeRequest(text="a post")], Media())
    assert len(server.requests) == 2
    repair = server.requests[1][3]["messages"]
    assert repair[-2] == {"role": "assistant", "content": "I would rather write a poem."}
    assert "it holds no JSON object" in repair[-1]["content"]


def test_chat_knowledge_with_null_content_retries_and_answers(server: Faults, tmp_path: Path) -> None:
    server.script = [lambda handler: answer(handler, None), lambda handler: answer(handler, '{"explanation": "good"}')]
    (known,) = knowledge(server, tmp_path).run([KnowledgeRequest(text="a post")], Media())
    assert known.text == "good" and (known.prompt_tokens, known.completion_tokens) == (6, 4)


def test_chat_knowledge_with_truncated_answer_asks_for_brevity(server: Faults, tmp_path: Path) -> None:
    server.script = [lambda handler: answer(handler, '{"explanation": "on and on', "length")]
    with pytest.raises(ToolUnavailable, match="it was cut off: be brief"):
        knowledge(server, tmp_path).run([KnowledgeRequest(text="a post")], Media())


def test_chat_knowledge_beyond_bounds_truncates_with_w110_and_w111(server: Faults, tmp_path: Path) -> None:
    server.script = [lambda handler: answer(handler, json.dumps({"explanation": "word " * 200}))]
    given = config(server).model_dump() | {"max_post": 100, "max_answer": 103, "cache_dir": tmp_path}
    tool = ChatKnowledge(KnowledgeConfig(**given))
    request = KnowledgeRequest(text="a" * 99 + "bc")
    (known,) = tool.run([request], Media())
    assert server.requests[0][3]["messages"][-1]["content"].count("a" * 99 + "b</post>") == 1
    assert known.text == ("word " * 20).strip()
    assert [notice.code for notice in known.notices] == ["W110", "W111"]
    assert tool.run([request], Media()) == [known] and len(server.requests) == 1  # the warnings are kept, too


@pytest.mark.parametrize(("text", "problem"), [("", "the text is empty"), ("word " * 300, "1499 characters")])
def test_chat_captioner_with_empty_or_long_answer_raises_unavailable(server: Faults, text: str, problem: str) -> None:
    server.script = [lambda handler: answer(handler, text)]
    tool = ChatCaptioner(CaptionerConfig(**config(server).model_dump(), cache=False))
    request = CaptionRequest(image=ImageRef(sha256="a" * 64, width=9, height=9))
    with pytest.raises(ToolUnavailable, match=problem):
        tool.run([request], Media(images={"a" * 64: Image.new("RGB", (9, 9))}))
    assert server.requests[0][3]["messages"][0]["content"][0]["image_url"]["url"].startswith("data:image/jpeg")


def test_chat_knowledge_cache_and_fingerprint_contain_no_secret(server: Faults, tmp_path: Path) -> None:
    server.script = [lambda handler: answer(handler, '{"explanation": "good"}')]
    tool = knowledge(server, tmp_path)
    tool.run([KnowledgeRequest(text="a post")], Media())
    before = tool.fingerprint
    assert SECRET not in repr(tool.config) + tool.config.model_dump_json() + repr(vars(tool))
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files and not any(SECRET.encode() in path.read_bytes() for path in files)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_API_KEY", "another")
        assert knowledge(server, tmp_path).fingerprint == before


def test_chat_client_of_openai_without_key_raises_e311(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(NamepinError, match="E311") as failure:
        ChatClient(ChatConfig(model="m"), "knowledge")
    assert failure.value.exit_code == 3


def test_chat_client_without_llm_package_raises_e310(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NamepinError, match=r"E310.*pip install 'namepin\[llm\]'"):
        ChatClient(ChatConfig(model="m"), "knowledge")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8000", "ftp://host/v1", "http://", "http://h:99999/v1", "http://me:pass@host/v1", "http://h/?k=pass"],
)
def test_chat_config_with_unusable_address_raises_validation_error(address: str) -> None:
    with pytest.raises(ValidationError, match="base_url"):
        ChatConfig(model="m", base_url=address)


def test_knowledge_config_without_model_is_disabled() -> None:
    assert not KnowledgeConfig().enabled and KnowledgeConfig(model="m").enabled
    with pytest.raises(ValidationError, match="`model` is not"):
        KnowledgeConfig(base_url="http://127.0.0.1/v1")
