"""Where conversations are kept: SQLite in the user's data folder, or PostgreSQL where one is named."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from platformdirs import user_data_path

from namepin.tools.errors import Exit, NamepinError, install_command

DATABASE_VARIABLE = "NAMEPIN_DATABASE_URL"
"""`postgresql://...`: it may hold a password, so it comes from the environment only."""

Saver = BaseCheckpointSaver[Any]
_LOOKED_AT = 2000

WAIT_S = 10
"""How long PostgreSQL may take to answer."""


@dataclass(frozen=True)
class Session:
    """A kept conversation: its id, its last change, and how it began."""

    id: str
    changed: datetime
    title: str


def data_folder() -> Path:
    """NAMEPIN_DATA_DIR, or the user's data folder; conversations and their pictures lie in it."""
    return Path(os.environ.get("NAMEPIN_DATA_DIR") or user_data_path("namepin", appauthor=False))


@asynccontextmanager
async def open_saver(folder: Path | None = None) -> AsyncIterator[Saver]:
    """The checkpointer of all conversations, its tables made.

    Args:
        folder: where `chat.sqlite` lies; None takes `data_folder()`. Not looked at where NAMEPIN_DATABASE_URL is set.

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
            saver = AsyncSqliteSaver(connection)
            await saver.setup()
            yield saver
    except (OSError, aiosqlite.Error) as error:
        raise _closed(str(path), error) from error


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
        saver = AsyncPostgresSaver(pool)
        await saver.setup()
    except (PoolTimeout, psycopg.Error) as error:
        await pool.close()
        raise _closed(f"the database of {DATABASE_VARIABLE}", error) from error
    try:
        yield saver
    finally:
        await pool.close()


def _closed(where: str, error: Exception) -> NamepinError:
    # Not the driver's message: it may repeat the address, and with it a password.
    what = f"the conversations' database cannot be opened ({type(error).__name__})"
    return NamepinError("E331", what, where=where, mend="start it, or correct its address", exit_code=Exit.UNREACHABLE)


async def sessions_of(saver: Saver, owner: str, limit: int = 20) -> list[Session]:
    """The owner's conversations, the last changed first."""
    found: dict[str, Session] = {}
    async for kept in saver.alist(None, limit=_LOOKED_AT):
        thread = str(kept.config["configurable"]["thread_id"])
        whose, _, session = thread.partition("/")
        messages = kept.checkpoint["channel_values"].get("messages") or []
        if whose != owner or session in found or not messages:
            continue
        begun = next((str(m.content) for m in messages if isinstance(m, HumanMessage)), "")
        found[session] = Session(session, datetime.fromisoformat(kept.checkpoint["ts"]), begun)
        if len(found) == limit:
            break
    return sorted(found.values(), key=lambda session: session.changed, reverse=True)


def thread_of(owner: str, session: str) -> RunnableConfig:
    """The configuration of one conversation: an owner's threads are told from another's by their ids' first part."""
    return {"configurable": {"thread_id": f"{owner}/{session}"}, "recursion_limit": 60}
