"""A server that reveals the key in its answers: they are parsed as they come, and nothing that is kept has the key."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from namepin.agent.chat.agent import build_agent, lead_model, stream_answer
from namepin.agent.chat.state import Answer, ChatContext
from namepin.agent.checkpointer import open_saver, thread_of
from namepin.agent.config.sections import ChatSettings
from namepin.agent.stores.pictures import Pictures
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.tools.entailment.chat import ChatEntailment
from namepin.tools.entailment.config import ChatEntailmentConfig
from namepin.tools.errors import ToolUnavailable
from namepin.tools.interfaces import EntailRequest, KnowledgeRequest, ReferringQuery
from namepin.tools.knowledge.chat import ChatKnowledge
from namepin.tools.knowledge.config import KnowledgeConfig
from namepin.tools.media import Media
from namepin.tools.redaction import SecretFilter, without_secret
from namepin.tools.types import ImageRef
from support import chat_server
from support.scripted_chat import Server, serve

KEY = "sk-proj/A1b2C3d4E5f6G7h8"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve(*request.param) as running:
        yield running


def explain(server: Server, folder: Path, **changes: object) -> str:
    settings = {"model": "m", "base_url": server.url, "retries": 0, "cache_dir": folder}
    tool = ChatKnowledge(KnowledgeConfig.model_validate(settings | changes))
    return tool.run([KnowledgeRequest(text="Ada")], Media())[0].text


def has_piece(text: str) -> bool:
    """Whether a text has a piece of the key that tells something."""
    return any(KEY[at : at + 6] in text for at in range(7, len(KEY) - 5))


SPELLINGS = {
    "as it is": json.dumps({"explanation": f"The key is {KEY}."}),
    "with escapes": json.dumps({"explanation": f"The key is {KEY}."}).replace("/", "\\/").replace("-", "\\u002d"),
    "in Python": str({"explanation": f"The key is {KEY}."}),
    "beside the answer": json.dumps({KEY: KEY, "explanation": f"The key is {KEY}."}),
    "in thoughts": f"<think>{KEY}</think>" + json.dumps({"explanation": f"The key is {KEY}."}),
}


@pytest.mark.parametrize("server", [(said,) for said in SPELLINGS.values()], ids=SPELLINGS, indirect=True)
def test_key_in_any_spelling_is_masked_in_answer_and_cache(server: Server, tmp_path: Path) -> None:
    assert explain(server, tmp_path) == "The key is ***."
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert kept and not any(KEY.encode() in data or b"A1b2C3d4" in data for data in kept)


@pytest.mark.parametrize("server", [('{"explanation":"A mathematician."}',)], indirect=True)
@pytest.mark.parametrize("form", ['{"explanation":"', '"explanation":"A', 'mathematician."}'])
def test_key_that_is_part_of_an_answers_form_leaves_it_readable(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    assert without_secret(form, form) == "***", "it can be a secret"
    monkeypatch.setenv("OPENAI_API_KEY", form)
    assert explain(server, tmp_path) == "A mathematician."


@pytest.mark.parametrize("server", [(json.dumps({"explanation": "word " * 19 + KEY + " end" * 9}),)], indirect=True)
def test_answer_cut_within_a_key_keeps_no_piece_of_it(server: Server, tmp_path: Path) -> None:
    said = explain(server, tmp_path, max_answer=110)
    assert said.startswith("word word") and not has_piece(said)


@pytest.mark.parametrize("server", [(f"no answer, but words of some length and then {KEY}",) * 2], indirect=True)
def test_error_that_quotes_an_answer_has_no_piece_of_the_key(server: Server) -> None:
    settings = {"model": "m", "base_url": server.url, "retries": 0, "cache": False, "guide": "none"}
    tool = ChatEntailment(ChatEntailmentConfig.model_validate(settings))
    queries = (ReferringQuery(text="Ada", label="PER", category="PER", expression="Ada"),)
    request = EntailRequest(text="Ada", image=ImageRef(sha256="a" * 64, width=8, height=8), queries=queries)
    with pytest.raises(ToolUnavailable) as caught:
        tool.run([request], Media(images={"a" * 64: Image.new("RGB", (8, 8))}))
    assert "neither yes nor no" in str(caught.value) and not has_piece(str(caught.value))
    sent_back = json.dumps(server.bodies[1]["messages"])
    assert "***" in sent_back and not has_piece(sent_back)


def test_model_that_leads_a_conversation_shows_and_stores_no_key(tmp_path: Path) -> None:
    async def talk(url: str) -> list[str]:
        settings = ChatSettings(model="m", base_url=url, retries=0)
        context = ChatContext(ProfilePool(["starter"]), Pictures(tmp_path / "pictures"), "starter")
        async with open_saver(tmp_path) as saver:
            agent = build_agent(lead_model(settings), settings, saver)
            events = [e async for e in stream_answer(agent, "hello", None, context, thread_of("me", "talk"))]
        return [event.words if isinstance(event, Answer) else event.text for event in events]

    steps = (("extract", {"text": f"Bob Dylan {KEY}"}), f"The key is {KEY} indeed")
    with chat_server.serve(*steps) as server:
        said = asyncio.run(talk(server.url))
    assert "The key is *** indeed" in "".join(said) and not has_piece("".join(said))
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"Bob Dylan ***" in stored and KEY.encode() not in stored


@pytest.mark.parametrize("size", [1, 2, 5, 23, 24, 100])
def test_key_that_comes_in_pieces_is_not_shown(size: int) -> None:
    text = f"{KEY[:5]} the key is {KEY}{KEY}, and {KEY[:9]}"
    shown, pieces = SecretFilter(KEY), [text[at : at + size] for at in range(0, len(text), size)]
    assert "".join(map(shown, pieces)) + shown.rest() == text.replace(KEY, "***")
    plain = SecretFilter("test")
    assert "".join(map(plain, pieces)) + plain.rest() == text
