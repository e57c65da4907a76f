"""The store of conversations: SQLite in the user's data folder, or a configured PostgreSQL."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from platformdirs import user_data_path

from namepin.tools.errors import Exit, NamepinError, install_command

DATABASE_VARIABLE = "NAMEPIN_DATABASE_URL"
"""Holds `postgresql://...`. The address may contain a password, so it comes from the environment only."""

Saver = BaseCheckpointSaver[Any]
_LOOKED_AT = 2000

_STEPS = 400
"""Limit of graph steps per message. It is above the need of all allowed model calls, so that only their limit ends a
turn."""

WAIT_S = 10
"""Longest time to wait for PostgreSQL's answer."""


_TYPES = frozenset({"empty", "null", "bytes", "bytearray", "msgpack"})
"""LangGraph's current format. Its older `json` builds objects of LangChain by name."""

_skip_damaged: ContextVar[bool] = ContextVar("skip_damaged", default=False)


class StrictSerializer(JsonPlusSerializer):
    """Reads only plain values and LangChain's messages, so that database content can never run code."""

    def __init__(self) -> None:
        super().__init__(pickle_fallback=False, allowed_json_modules=None, allowed_msgpack_modules=None)

    def loads_typed(self, data: tuple[str, bytes]) -> Any:
        """A stored value.

        Raises:
            NamepinError: E336 when it is damaged or of an unsupported type. In the list of conversations, a damaged
                conversation is empty instead.
        """
        try:
            if data[0] not in _TYPES:
                raise ValueError("another type")
            return super().loads_typed(data)
        except Exception as error:  # the decoder raises nearly every built-in type on damaged data
            if _skip_damaged.get():
                return {}
            raise damage_error() from error


def damage_error() -> NamepinError:
    """The error for a conversation that cannot be read."""
    return NamepinError("E336", "the stored conversation is damaged", mend="begin another one")


@dataclass(frozen=True)
class Session:
    """A stored conversation: its id, its last change, and its beginning."""

    id: str
    changed: datetime
    title: str


def data_folder() -> Path:
    """NAMEPIN_DATA_DIR, or the user's data folder. It holds conversations and their pictures."""
    return Path(os.environ.get("NAMEPIN_DATA_DIR") or user_data_path("namepin", appauthor=False))


@asynccontextmanager
async def open_saver(folder: Path | None = None) -> AsyncIterator[Saver]:
    """The checkpointer of all conversations, with its tables created.

    Args:
        folder: folder of `chat.sqlite`; None for `data_folder()`. Ignored if NAMEPIN_DATABASE_URL is set.

    Raises:
        NamepinError: E331 when the database cannot be opened, E332 when its package is missing.
    """
    address = os.environ.get(DATABASE_VARIABLE)
    try:
        if address:
            async with _postgres(address) as saver:
                yield saver
        else:
            async with _sqlite(folder or data_folder()) as saver:
                yield saver
    except ModuleNotFoundError as error:
        mend = install_command(f"namepin[{'postgres' if address else 'chat'}]")
        raise NamepinError("E332", f"conversations need the package {error.name!r}", mend=mend) from error


@asynccontextmanager
async def _sqlite(folder: Path) -> AsyncIterator[Saver]:
    import aiosqlite
    from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

    path = folder / "chat.sqlite"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with aiosqlite.connect(path, timeout=30) as connection:
            saver = AsyncSqliteSaver(connection, serde=StrictSerializer())
            await saver.setup()
            yield saver
    except (OSError, aiosqlite.Error) as error:
        raise _closed_error(str(path), error) from error


@asynccontextmanager
async def _postgres(address: str) -> AsyncIterator[Saver]:
    import psycopg
    from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
    from psycopg.rows import dict_row
    from psycopg_pool import AsyncConnectionPool, PoolTimeout

    options = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    pool: Any = AsyncConnectionPool(address, open=False, max_size=8, timeout=WAIT_S, kwargs=options)
    try:
        await pool.open(wait=True, timeout=WAIT_S)
        saver = AsyncPostgresSaver(pool, serde=StrictSerializer())
        await saver.setup()
    except (PoolTimeout, psycopg.Error) as error:
        await pool.close()
        raise _closed_error(f"the database of {DATABASE_VARIABLE}", error) from error
    try:
        yield saver
    finally:
        await pool.close()


def _closed_error(where: str, error: Exception) -> NamepinError:
    # Without the driver's message, which may repeat the address with its password.
    what = f"the conversations' database cannot be opened ({type(error).__name__})"
    return NamepinError("E331", what, where=where, mend="start it, or correct its address", exit_code=Exit.UNREACHABLE)


async def sessions_of(saver: Saver, owner: str, limit: int = 20) -> list[Session]:
    """The owner's conversations, the last changed first, without damaged ones."""
    found: dict[str, Session] = {}
    token = _skip_damaged.set(True)
    try:
        async for stored in saver.alist(None, limit=_LOOKED_AT):
            whose, _, session = str(stored.config["configurable"]["thread_id"]).partition("/")
            if whose != owner or session in found:
                continue
            listed = _session_row(session, stored.checkpoint)
            if listed is not None:
                found[session] = listed
            if len(found) == limit:
                break
    finally:
        _skip_damaged.reset(token)
    return sorted(found.values(), key=lambda session: session.changed, reverse=True)


def _session_row(session: str, checkpoint: Any) -> Session | None:
    """A conversation for the list; None for an empty or damaged conversation."""
    try:
        messages = checkpoint["channel_values"].get("messages") or []
        if not messages:
            return None
        begun = next((str(m.content) for m in messages if isinstance(m, HumanMessage)), "")
        return Session(session, datetime.fromisoformat(checkpoint["ts"]), begun)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def thread_of(owner: str, session: str) -> RunnableConfig:
    """The configuration of one conversation. The first part of a thread's id is its owner."""
    return {"configurable": {"thread_id": f"{owner}/{session}"}, "recursion_limit": _STEPS}
