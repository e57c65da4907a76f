"""Conversations in a real PostgreSQL: they survive a restart, owners are separate, errors hold no password."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from namepin.agent.chat.agent import build_agent, lead_model, stream_answer
from namepin.agent.chat.state import Answer, ChatContext
from namepin.agent.checkpointer import DATABASE_VARIABLE, open_saver, sessions_of, thread_of
from namepin.agent.config.sections import ChatSettings
from namepin.agent.stores.pictures import Pictures
from namepin.agent.stores.profile_pool import ProfilePool
from support.cli import Cli
from support.paths import ROOT
from support.postgres import Server, postgres

PICTURE = ROOT / "examples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with postgres() as server:
        yield server


@pytest.fixture
def database(server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Server:
    monkeypatch.setenv(DATABASE_VARIABLE, server.url)
    monkeypatch.setenv("NAMEPIN_DATA_DIR", str(tmp_path))
    return server


def say(message: str, folder: Path, owner: str = "me", picture: Path | None = None) -> list[Answer]:
    """One message, with everything opened for it alone and closed again, as after a restart."""

    async def go() -> list[Answer]:
        context = ChatContext(ProfilePool(["starter"]), Pictures(folder), "starter")
        attached = context.pictures.attach(picture.read_bytes()) if picture else None
        async with open_saver() as saver:
            assert isinstance(saver, AsyncPostgresSaver)
            agent = build_agent(lead_model(ChatSettings()), ChatSettings(), saver)
            events = [e async for e in stream_answer(agent, message, attached, context, thread_of(owner, "talk"))]
            return [event for event in events if isinstance(event, Answer)]

    return asyncio.run(go())


def test_conversation_in_postgres_persists_over_database_restart(database: Server, tmp_path: Path) -> None:
    [found] = say("Eileen Collins in front of the Discovery", tmp_path, picture=PICTURE)
    assert found.extraction and found.extraction.entities[0].box
    database.stop()
    database.start()
    [why] = say("why is she in the picture?", tmp_path)
    assert why.kind == "explanation" and "match score" in why.words
    [theirs] = say("explain Eileen Collins", tmp_path, owner="you")
    assert theirs.kind == "extraction", "another owner has no post to explain"

    async def kept() -> list[str]:
        async with open_saver() as saver:
            return [session.title for session in await sessions_of(saver, "me")]

    assert asyncio.run(kept()) == ["Eileen Collins in front of the Discovery"]
    assert not (tmp_path / "chat.sqlite").exists()


def test_chat_command_with_database_variable_stores_in_postgres(database: Server, cli: Cli, tmp_path: Path) -> None:
    assert "Bob Dylan: Person" in cli("chat", "--session", "command", stdin=b"Bob Dylan in Oslo").out
    assert "musician" in cli("chat", "--session", "command", stdin=b"explain the first one").out
    assert "command  " in cli("chat", "--sessions").out
    assert not (tmp_path / "chat.sqlite").exists()


def test_chat_with_unreachable_database_raises_e331_without_password(
    database: Server, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("namepin.agent.checkpointer.WAIT_S", 1)
    database.stop()
    try:
        ran = cli("chat", stdin=b"Bob Dylan in Oslo")
    finally:
        database.start()
    assert ran.code == 3 and "E331" in ran.err and DATABASE_VARIABLE in ran.err
    assert "secret-password" not in ran.out + ran.err
