"""Model servers with unusual answers: safe ones are accepted, others are reported, and a dummy key is harmless."""

import json
import re
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from namepin.tools.errors import ToolUnavailable
from namepin.tools.interfaces import KnowledgeRequest
from namepin.tools.knowledge.chat import ChatKnowledge
from namepin.tools.knowledge.config import KnowledgeConfig
from namepin.tools.llm.answers import json_objects, last_object, repaired_object
from namepin.tools.llm.client import Ask, ChatClient, Reply
from namepin.tools.llm.config import ChatConfig
from namepin.tools.llm.constrained import parse_choice
from namepin.tools.media import Media
from namepin.tools.redaction import is_secret, secrets_of
from support.loopback import JsonHandler, completion, serving

EXPLANATION = "Ada Lovelace is an English mathematician; exempt, empty, tested explanation."
DUMMY = (
    "x",
    "EMPTY",
    "ollama",
    "test",
    "none",
    "e",
    "explanation",
    "mathematician",
    "lm-studio",
    "not-needed",
    "-",
    "{",
    '"',
)


def call(arguments: str) -> dict[str, Any]:
    """Of a tool."""
    return {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}


class Server(ThreadingHTTPServer):
    """Answers with the same message; `refuses` are names of fields that it does not take."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.message: dict[str, Any] = {}
        self.finish, self.logprobs = "stop", None
        self.refuses: tuple[str, ...] = ()
        self.together = False
        self.bodies: list[dict[str, Any]] = []

    def says(self, **message: Any) -> None:
        self.message = {"role": "assistant", **message}

    @property
    def config(self) -> dict[str, Any]:
        return {"model": "m", "base_url": f"http://127.0.0.1:{self.server_port}/v1", "retries": 0, "max_tokens": 77}


class Handler(JsonHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.body())
        self.server.bodies.append(body)
        if self.server.together and {"max_tokens", "max_completion_tokens"} <= body.keys():
            what = "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
            return self.answer({"error": {"message": what}}, 400)
        for name in self.server.refuses:
            if name in body:
                return self.answer({"error": {"message": f"Unsupported parameter: '{name}'"}}, 400)
        answer = completion("")
        choice = {"index": 0, "message": self.server.message, "finish_reason": self.server.finish}
        self.answer({**answer, "choices": [{**choice, "logprobs": self.server.logprobs}]})


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as running:
        yield running


def ask_once(server: Server) -> Reply:
    client = ChatClient(ChatConfig(**server.config), "knowledge")

    async def question(ask: Ask, _: int) -> Reply:
        return await ask([HumanMessage("who?")])

    (reply,) = client.map(question, [1])
    if isinstance(reply, ToolUnavailable):
        raise reply
    return reply


def explain(server: Server) -> str:
    tool = ChatKnowledge(KnowledgeConfig(**server.config, cache=False))
    return tool.run([KnowledgeRequest(text="Ada")], Media())[0].text


@pytest.mark.parametrize("key", DUMMY)
def test_chat_client_with_dummy_key_keeps_answer(server: Server, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.says(content=json.dumps({"explanation": EXPLANATION}))
    server.logprobs = {"content": [{"token": "x", "logprob": -0.1, "top_logprobs": []}]}
    assert explain(server) == EXPLANATION
    assert ask_once(server).tokens, "log-probabilities stay"


@pytest.mark.parametrize("key", ["sk-proj-A1b2C3d4E5f6G7h8", "hunter2secret9", "correct-horse-battery-staple"])
def test_chat_client_with_real_key_in_answer_masks_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.says(content=json.dumps({"explanation": f"the key is {key}"}))
    assert explain(server) == "the key is ***"
    server.logprobs = {"content": [{"token": "x", "logprob": -0.1, "top_logprobs": []}]}
    assert ask_once(server).tokens, "log-probabilities stay"


def test_is_secret_rejects_dummy_and_common_words() -> None:
    assert not any(map(is_secret, [*DUMMY, "aaaaaaaaaaaaaaaaaaaa", "two words of sixteen", "12345678", "password", ""]))
    found = secrets_of({"OPENAI_API_KEY": "EMPTY", "HF_TOKEN": "hf_abcDEF123456", "PASSWORD": "test"})
    assert found == {"hf_abcDEF123456"}


@pytest.mark.parametrize(
    "answer",
    [
        "{'explanation': 'Ada is here'}",
        '{"explanation": "Ada is here",}',
        "{explanation: 'Ada is here'}",
        '{"explanation": "Ada is here", // why\n}',
        "Sure! ```json\n{'explanation': 'Ada is here',}\n``` Glad to help.",
        '<think>{"explanation": "no"}</think>{"explanation": "Ada is here"}',
        '"explanation": "Ada is here"',
    ],
)
def test_chat_knowledge_with_malformed_json_repairs_answer(server: Server, answer: str) -> None:
    server.says(content=answer)
    assert explain(server) == "Ada is here" and len(server.bodies) == 1


@pytest.mark.parametrize(
    ("message", "finish"),
    [
        ({"content": None, "tool_calls": [call('{"explanation": "Ada is here"}')]}, "tool_calls"),
        ({"content": "", "tool_calls": [call("{'explanation': 'Ada is here'}")]}, "tool_calls"),
        (
            {"content": "", "reasoning_content": 'Draft {"explanation": "no"}\n{"explanation": "Ada is here"}'},
            "stop",
        ),
        ({"content": None, "reasoning": 'Hm.\n```json\n{"explanation": "Ada is here"}\n```'}, "stop"),
        ({"content": '{"explanation": "Ada is here"}', "reasoning_content": '{"explanation": "no"}'}, "stop"),
    ],
)
def test_chat_knowledge_reads_answer_from_other_fields(server: Server, message: dict[str, Any], finish: str) -> None:
    server.says(**message)
    server.finish = finish
    assert explain(server) == "Ada is here"


@pytest.mark.parametrize(
    ("message", "finish", "words"),
    [
        ({"content": ""}, "stop", "it is empty"),
        ({"content": None}, "stop", "it is empty"),
        ({"content": "", "reasoning_content": 'maybe {"explanation": "draft"} or not'}, "stop", "thoughts only"),
        ({"content": "", "reasoning_content": '{"explanation": "dr'}, "length", "cut off"),
        ({"content": "", "tool_calls": [call("{}"), call("{}")]}, "tool_calls", "2 tool calls"),
        ({"content": "I cannot."}, "stop", "no JSON object"),
        ({"content": '{"explanation": "Ada is'}, "stop", "no JSON object"),
        ({"content": "{'explanation': 'Ada is"}, "length", "cut off"),
        ({"content": "{" * 50_000}, "stop", "no JSON object"),
        ({"content": '{"explanation": 7}'}, "stop", "valid string"),
    ],
)
def test_chat_knowledge_without_answer_raises(server: Server, message: dict[str, Any], finish: str, words: str) -> None:
    server.says(**message)
    server.finish = finish
    with pytest.raises(ToolUnavailable, match=words):
        explain(server)


def test_repaired_object_without_object_returns_none() -> None:
    assert repaired_object("{'a': 'b',}") == {"a": "b"}
    assert list(json_objects('x {"a": 1} {"b": {"c": 2}}')) == [{"a": 1}, {"b": {"c": 2}}, {"c": 2}]
    assert last_object('{"a": 1} then {"b": {"c": 2}}') == '{"b": {"c": 2}}' and last_object('{"a": 1}.') == ""
    for answer in ("{", "}", "{}", "no", "{'a'", "}{", "{" * 30_000 + "}" * 30_000):
        assert repaired_object(answer) is None
    assert parse_choice("{'type': 'athlete',}", ["athlete", "actor"], "type") == "athlete"
    assert parse_choice('```json\n{"type": "Actor"}\n```', ["athlete", "actor"], "type") == "actor"
    assert parse_choice("{'type': 'president'}", ["athlete", "actor"], "type") is None


@pytest.mark.parametrize(
    ("refuses", "together", "questions", "kept"),
    [
        ((), False, 1, {"max_tokens", "max_completion_tokens"}),
        (("max_completion_tokens",), False, 2, {"max_tokens"}),
        (("max_tokens",), False, 2, {"max_completion_tokens"}),
        ((), True, 2, {"max_completion_tokens"}),
    ],
)
def test_chat_client_bound_uses_parameter_that_server_accepts(
    server: Server, refuses: tuple[str, ...], together: bool, questions: int, kept: set[str]
) -> None:
    server.refuses, server.together = refuses, together
    server.says(content="Ada")
    assert ask_once(server).text == "Ada" and len(server.bodies) == questions
    bounds = {name: value for name, value in server.bodies[-1].items() if re.match("max_", name)}
    assert bounds == dict.fromkeys(kept, 77)


def test_chat_client_with_every_bound_refused_raises_tool_unavailable(server: Server) -> None:
    server.refuses = ("max_completion_tokens", "max_tokens")
    with pytest.raises(ToolUnavailable, match="Unsupported parameter"):
        ask_once(server)
    assert len(server.bodies) == 2
