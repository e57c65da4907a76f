"""Several servers of one chat model: balanced, left out when dead, tried again; with real servers on loopback."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from pydantic import ValidationError

from namepin.tools.errors import ToolUnavailable
from namepin.tools.llm.client import Ask, ChatClient, Reply
from namepin.tools.llm.config import ChatConfig
from namepin.tools.llm.servers import LONGEST_REST_S, REST_S, Servers
from support.scripted_chat import Server, serve


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_servers_take_returns_least_busy_server() -> None:
    servers = Servers("ab")
    assert [servers.take() for _ in range(4)] == ["a", "b", "a", "b"]
    servers.report_answer("b")
    assert servers.take() == "b"


def test_servers_take_after_failure_prefers_other_server() -> None:
    """The dead one is the idlest: the other has questions under way."""
    servers = Servers("ab")
    assert [servers.take() for _ in range(3)] == ["a", "b", "a"]
    servers.report_failure("b")
    assert servers.take({"b"}) == "a" and servers.take() == "b"
    servers.report_failure("b")
    assert servers.take({"a", "b"}) == "b", "where all were tried, the idlest again"
    clock = Clock()
    servers = Servers("ab", clock)
    for _ in range(3):
        while servers.take() != "b":
            servers.report_answer("a")
        servers.report_failure("b")
    clock.now += REST_S
    assert servers.take({"b"}) == "a", "one that has rested, too"


def test_servers_failing_server_rests_with_doubling_interval() -> None:
    clock = Clock()
    servers = Servers("ab", clock)
    for _ in range(3):
        while servers.take() != "b":
            servers.report_answer("a")
        servers.report_failure("b")
    assert {servers.take() for _ in range(5)} == {"a"}
    rest = REST_S
    for _ in range(6):
        clock.now += rest - 1
        assert servers.take() == "a"
        clock.now += 2
        assert servers.take() == "b", "one question tries it"
        assert servers.take() == "a", "and only one"
        servers.report_failure("b")
        rest = min(2 * rest, LONGEST_REST_S)
    clock.now += rest
    assert servers.take() == "b"
    servers.report_answer("b")
    assert "b" in [servers.take() for _ in range(3)]


def test_servers_take_with_all_resting_returns_none() -> None:
    clock = Clock()
    servers = Servers("a", clock)
    for _ in range(3):
        assert servers.take() == "a"
        servers.report_failure("a")
    assert servers.take() is None and servers.back_in_s == REST_S
    clock.now += REST_S
    assert servers.take() == "a" and servers.take() is None
    servers.given_up("a")
    assert servers.take() == "a"


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["take", "ok", "fail", "off", "wait"]), max_size=80), st.integers(1, 4))
def test_servers_after_any_events_offer_server_again(events: list[str], count: int) -> None:
    """Whatever happens: no more is under way than was taken, and once all rests are over somebody is asked again."""
    clock = Clock()
    servers = Servers([f"s{number}" for number in range(count)], clock)
    taken: list[str] = []
    for event in events:
        if event == "take":
            address = servers.take()
            taken += [address] if address else []
        elif event == "wait":
            clock.now += 40
        elif taken:
            address = taken.pop(0)
            {"ok": servers.report_answer, "fail": servers.report_failure, "off": servers.given_up}[event](address)
    for address in taken:
        servers.given_up(address)
    clock.now += LONGEST_REST_S
    assert servers.take() is not None


@pytest.fixture
def three() -> Iterator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serve("fine")) for _ in range(3)]


def a_client(*urls: str, **changes: object) -> ChatClient:
    given = {"model": "m", "base_url": urls[0], "servers": urls[1:], "timeout_s": 600, "retries": 2, "backoff_s": 0.01}
    return ChatClient(ChatConfig.model_validate(given | changes), "knowledge")


async def a_question(ask: Ask, number: int) -> Reply:
    return await ask([HumanMessage(f"question {number}")])


def nobody() -> str:
    """An address where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def test_chat_client_with_three_servers_balances_questions(three: list[Server]) -> None:
    answers = a_client(*(server.url for server in three)).map(a_question, range(30))
    assert all(isinstance(answer, Reply) and answer.text == "fine" for answer in answers)
    assert all(6 <= len(server.bodies) <= 14 for server in three)


def test_chat_client_with_dead_server_answers_every_question(three: list[Server]) -> None:
    client = a_client(nobody(), *(server.url for server in three))
    answers = client.map(a_question, range(40))
    assert all(isinstance(answer, Reply) for answer in answers)
    assert sum(len(server.bodies) for server in three) == 40


def test_chat_client_with_server_dying_midway_answers_every_question(three: list[Server]) -> None:
    """Its connections break while 200 questions are under way; all are answered by the others."""
    client = a_client(*(server.url for server in three), concurrency=8)

    def kill() -> None:
        while len(three[0].bodies) < 10:
            time.sleep(0.001)
        three[0].shutdown()
        three[0].server_close()

    killer = threading.Thread(target=kill)
    killer.start()
    answers = client.map(a_question, range(200))
    killer.join()
    assert all(isinstance(answer, Reply) for answer in answers)
    assert len(three[0].bodies) < 100


def test_chat_client_with_all_servers_dead_fails_without_attempt() -> None:
    client = a_client(nobody(), nobody())
    for _ in range(3):
        assert isinstance(client.map(a_question, [1])[0], ToolUnavailable)
    (failure,) = client.map(a_question, [1])
    assert isinstance(failure, ToolUnavailable) and "left out" in str(failure), "without another attempt"


def test_chat_client_with_hanging_server_limits_attempts() -> None:
    """It takes connections and never answers: with four questions at a time, all are given up after one timeout."""
    connections = list[socket.socket]()

    def accept(deaf: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connections.append(deaf.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as deaf:
        threading.Thread(target=accept, args=(deaf,), daemon=True).start()
        client = a_client(f"http://127.0.0.1:{deaf.getsockname()[1]}/v1", timeout_s=0.4, retries=3, concurrency=4)
        answers = client.map(a_question, range(12))
        deaf.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()
    assert all(isinstance(answer, ToolUnavailable) for answer in answers)
    assert 1 <= len(connections) <= 8, "not four attempts of each of twelve questions"


def test_chat_client_identity_ignores_server_list(three: list[Server]) -> None:
    one, other = a_client(three[0].url), a_client(*(server.url for server in three))
    assert one.identity == other.identity


@pytest.mark.parametrize(
    "bad", [{"servers": ["ftp://x"]}, {"servers": ["http://u:p@x/v1"]}, {"base_url": None, "servers": ["http://x/v1"]}]
)
def test_chat_config_with_bad_server_addresses_raises_validation_error(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as error:
        ChatConfig.model_validate({"model": "m", "base_url": "http://127.0.0.1:1/v1"} | bad)
    assert "u:p" not in str(error.value).split("input_value")[0]
