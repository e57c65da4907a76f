"""Writing to the conversations' database runs no code and damages no other conversation."""

import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ormsgpack
import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde import jsonplus
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from namepin.agent.checkpointer import DATABASE_VARIABLE, StrictSerializer, open_saver, sessions_of, thread_of
from namepin.tools.errors import NamepinError
from support.postgres import postgres

MESSAGES = [HumanMessage("Bob Dylan"), AIMessage("", tool_calls=[{"name": "read", "args": {}, "id": "1"}])]
VALUES: dict[str, Any] = {
    "messages": [*MESSAGES, ToolMessage("{}", artifact={"kind": "extraction"}, tool_call_id="1")],
    "seen": [{"extraction": {"id": "post"}, "profile": "starter", "overrides": {"gate": {"gamma": 0.5}}}],
    "picture": None,
}


def crafted(code: int, *parts: Any) -> tuple[str, bytes]:
    return "msgpack", ormsgpack.packb({"messages": [ormsgpack.Ext(code, ormsgpack.packb(parts))]})


def attacks(file: Path) -> dict[str, tuple[str, bytes]]:
    command = f"touch {file}"
    return {
        "one argument": crafted(jsonplus.EXT_CONSTRUCTOR_SINGLE_ARG, "os", "system", command),
        "arguments": crafted(jsonplus.EXT_CONSTRUCTOR_POS_ARGS, "os", "system", [command]),
        "keywords": crafted(jsonplus.EXT_CONSTRUCTOR_KW_ARGS, "subprocess", "call", {"args": ["touch", str(file)]}),
        "a method": crafted(jsonplus.EXT_METHOD_SINGLE_ARG, "pathlib", "Path", str(file), "touch"),
        "pydantic 1": crafted(jsonplus.EXT_PYDANTIC_V1, "subprocess", "Popen", {"args": ["touch", str(file)]}),
        "pydantic 2": crafted(jsonplus.EXT_PYDANTIC_V2, "subprocess", "Popen", {"args": ["touch", str(file)]}, "x"),
        "json": ("json", b'{"lc": 2, "type": "constructor", "id": ["os", "system"], "args": ["touch x"]}'),
        "json of LangChain": ("json", b'{"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}'),
        "pickle": ("pickle", b"cos\nsystem\n(S'touch x'\ntR."),
        "garbage": ("msgpack", b"\xc1" * 50),
        "nested": ("msgpack", b"\x91" * 100_000),
        "nothing": ("msgpack", b""),
        "no type": ("", b""),
    }


@pytest.mark.parametrize("name", attacks(Path("x")))
def test_strict_serializer_with_crafted_value_runs_no_code(name: str, tmp_path: Path) -> None:
    file = tmp_path / "pwned"
    try:
        value = StrictSerializer().loads_typed(attacks(file)[name])
        assert isinstance(value, dict | list | int | str | bytes | float | bool | None)
    except NamepinError as error:
        assert error.code == "E336"
    assert not file.exists() and not Path("x").exists()


def test_json_plus_serializer_with_crafted_value_runs_code(tmp_path: Path) -> None:
    file = tmp_path / "pwned"
    JsonPlusSerializer(allowed_msgpack_modules=True).loads_typed(attacks(file)["one argument"])
    assert file.exists()


def test_strict_serializer_roundtrip_equals_values(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for writer in (JsonPlusSerializer(), StrictSerializer()):
            assert StrictSerializer().loads_typed(writer.dumps_typed(VALUES)) == VALUES
    assert "Blocked" not in caplog.text


async def test_sessions_with_crafted_checkpoint_omit_it_and_raise_e336_on_open(tmp_path: Path) -> None:
    file = tmp_path / "pwned"
    names = list(attacks(file))
    async with open_saver(tmp_path) as saver:
        for name in ("fine", *names):
            checkpoint = empty_checkpoint() | {"channel_values": {"messages": MESSAGES}}
            config = thread_of("me", name.replace(" ", "-"))
            config["configurable"]["checkpoint_ns"] = ""
            await saver.aput(config, checkpoint, {}, {})
    with sqlite3.connect(tmp_path / "chat.sqlite") as database:
        for name, (kind, blob) in attacks(file).items():
            thread = f"me/{name.replace(' ', '-')}"
            database.execute("UPDATE checkpoints SET type=?, checkpoint=? WHERE thread_id=?", (kind, blob, thread))
    database.close()
    async with open_saver(tmp_path) as saver:
        assert [session.id for session in await sessions_of(saver, "me")] == ["fine"]
        with pytest.raises(NamepinError, match="E336"):
            await saver.aget_tuple(thread_of("me", "garbage"))
    assert not file.exists()


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    pytest.importorskip("psycopg", reason="no driver of PostgreSQL: pip install namepin[postgres]")
    with postgres() as server:
        monkeypatch.setenv(DATABASE_VARIABLE, server.url)
        yield server.url


async def test_crafted_values_in_postgresql_run_nothing_and_spoil_no_other_conversation(
    address: str, tmp_path: Path
) -> None:
    import psycopg

    file, names = tmp_path / "pwned", list(attacks(Path("x")))
    async with open_saver() as saver:
        for name in ("fine", *names):
            config = thread_of("me", name.replace(" ", "-"))
            config["configurable"]["checkpoint_ns"] = ""
            checkpoint = empty_checkpoint() | {"channel_values": {"messages": MESSAGES}}
            checkpoint["channel_versions"] = {"messages": "1"}
            written = await saver.aput(config, checkpoint, {}, {"messages": "1"})
            await saver.aput_writes(written, [("messages", MESSAGES[:1])], "task")
    async with await psycopg.AsyncConnection.connect(address) as database:
        for name, (kind, blob) in attacks(file).items():
            for table in ("checkpoint_blobs", "checkpoint_writes"):
                update = f"UPDATE {table} SET type=%s, blob=%s WHERE thread_id=%s"
                changed = await database.execute(update, (kind, blob, f"me/{name.replace(' ', '-')}"))
                assert changed.rowcount == 1
    async with open_saver() as saver:
        assert "fine" in [session.id for session in await sessions_of(saver, "me")]
        found = await saver.aget_tuple(thread_of("me", "fine"))
        assert found is not None and found.checkpoint["channel_values"]["messages"] == MESSAGES
        for name in names:
            try:
                opened = await saver.aget_tuple(thread_of("me", name.replace(" ", "-")))
                assert opened is not None and opened.checkpoint["channel_values"].get("messages") != MESSAGES
            except NamepinError as error:
                assert error.code == "E336"
    assert not file.exists()
