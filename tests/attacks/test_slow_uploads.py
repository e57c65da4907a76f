"""Pictures that are not decoded by their deadline, where messages come with them: the post goes on without (W101)."""

import asyncio
import base64
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from namepin.agent.chat.agent import build_agent, lead_model, stream_answer
from namepin.agent.chat.state import Answer, ChatContext
from namepin.agent.checkpointer import open_saver, thread_of
from namepin.agent.config.sections import ChatSettings
from namepin.agent.config.settings import load_settings
from namepin.agent.mcp.owners import McpSessions
from namepin.agent.mcp.server import build_server, local
from namepin.agent.server.access import Access
from namepin.agent.server.reviews import Reviews
from namepin.agent.stores.files import FileStore
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.agent.web.uploads import Uploads
from namepin.agent.web.visitors import Visitors, new_session
from namepin.tools.errors import NamepinError
from namepin.tools.images import load
from namepin.tools.types import Extraction
from support.hostile_pictures import encoded, slow_jpeg

TEXT = "Bob Dylan in Oslo"
MAKE_ROOM = FileStore._make_room
CLOSE = ("review.match_margin=1", "gate.margin=9")
"""Everything is close: each type and each place is asked."""


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "DEADLINE_S", 0.01)


def has_no_picture(extraction: Extraction | dict[str, Any]) -> bool:
    found = Extraction.model_validate(extraction)
    warned = [notice.message for notice in found.warnings if notice.code == "W101"]
    return found.status == "degraded" and found.image is None and len(warned) == 1 and "E129" in warned[0]


@pytest.mark.usefixtures("hurry")
def test_mcp_with_a_slow_picture_reads_the_text(tmp_path: Path) -> None:
    sessions, slow = McpSessions(load_settings("starter", environment={}), CLOSE, tmp_path), slow_jpeg()
    (tmp_path / "slow.jpg").write_bytes(slow)
    by_path = McpSessions(load_settings("starter", environment={}), (), tmp_path / "other", tmp_path)
    call = {"text": TEXT, "image": base64.b64encode(slow).decode()}

    async def talk() -> None:
        async with Client(build_server(sessions, local)) as mcp:
            found = (await mcp.call_tool("extract", call)).structured_content
            assert has_no_picture(found["extraction"]) and found["extraction"]["entities"]
            now = (await mcp.call_tool("review", call)).structured_content
            assert now["state"] == "waiting"
            while now["state"] == "waiting":
                choices = {question["key"]: question["choices"][0] for question in now["questions"]}
                now = (await mcp.call_tool("decide", {"review": now["review"], "choices": choices})).structured_content
            assert has_no_picture(now["extraction"])
        async with Client(build_server(by_path, local)) as mcp:
            named = await mcp.call_tool("extract", {"text": TEXT, "image_path": "slow.jpg"})
            assert has_no_picture(named.structured_content["extraction"])

    asyncio.run(talk())


@pytest.mark.usefixtures("hurry")
def test_the_page_and_chat_with_a_slow_picture_read_the_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMEPIN_DATA_DIR", str(tmp_path))
    visitors = Visitors(Access({}, 60))
    uploads = Uploads(visitors, tmp_path / "pictures", 64_000_000)
    visitor = visitors.require_known({"namepin_session": new_session()})
    context = ChatContext(ProfilePool(["starter"]), uploads.of(visitor), "starter")

    async def talk(*messages: str) -> list[Extraction]:
        signed, kept = await uploads.keep(visitor, slow_jpeg())
        assert kept.ref is None and not (tmp_path / "pictures").exists()
        attached = await uploads.attached(visitor, signed)
        found = []
        async with open_saver() as saver:
            agent = build_agent(lead_model(ChatSettings()), ChatSettings(), saver)
            for message in messages:
                async for event in stream_answer(agent, message, attached, context, thread_of("me", "talk")):
                    if isinstance(event, Answer) and event.extraction:
                        found.append(event.extraction)
                attached = None
        return found

    first, again, other = asyncio.run(talk(TEXT, "again with gamma 0.3", "Ada Lovelace in Paris"))
    assert has_no_picture(first) and has_no_picture(again)
    assert other.status == "ok" and not other.warnings, "the warning was for one message"


def test_a_stored_picture_slow_another_time_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visitors = Visitors(Access({}, 60))
    uploads = Uploads(visitors, tmp_path / "pictures", 64_000_000)
    visitor = visitors.require_known({"namepin_session": new_session()})
    signed, kept = asyncio.run(uploads.keep(visitor, slow_jpeg()))
    assert kept.ref is not None
    monkeypatch.setattr(load, "DEADLINE_S", 0.01)
    attached = asyncio.run(uploads.attached(visitor, signed))
    assert attached is not None and attached.ref is None and attached.notices[0].code == "W101"
    picture, notices = asyncio.run(uploads.of(visitor).open_attached(kept))
    assert picture is None and notices[0].code == "W101"


async def test_a_review_keeps_to_what_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reviews = Reviews(tmp_path, ProfilePool(["starter"], CLOSE), most=9)
    row, picture = {"id": "a", "text": TEXT}, slow_jpeg()
    with monkeypatch.context() as hurried:
        hurried.setattr(load, "DEADLINE_S", 0.01)
        without = await reviews.begin("me", row, picture, "starter")
    while without.state == "waiting":  # the picture would be decoded now
        answers = {question.key: question.choices[0] for question in without.questions}
        without = await reviews.answer("me", without.id, answers) or without
    assert without.extraction is not None and has_no_picture(without.extraction)

    held = await reviews.begin("me", row, picture, "starter")
    with monkeypatch.context() as hurried:
        hurried.setattr(load, "DEADLINE_S", 0.01)
        with pytest.raises(NamepinError, match="E129"):
            await reviews.answer("me", held.id, {question.key: question.choices[0] for question in held.questions})
    while held.state == "waiting":
        answers = {question.key: question.choices[0] for question in held.questions}
        held = await reviews.answer("me", held.id, answers) or held
    assert held.extraction is not None and held.extraction.image is not None and held.extraction.status == "ok"


def test_one_owners_uploads_push_out_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileStore, "_make_room", partialmethod(_within, 3000))
    visitors = Visitors(Access({"ann": "a" * 20, "bo": "b" * 20}, 60))
    uploads = Uploads(visitors, tmp_path / "pictures", 64_000_000)
    ann, bo = (
        visitors.require_known({"namepin_session": new_session(), "namepin_token": letter * 20}) for letter in "ab"
    )
    mine, _ = asyncio.run(uploads.keep(ann, encoded("PNG")))
    for number in range(9):
        theirs, _ = asyncio.run(uploads.keep(bo, encoded("PNG") + bytes(500 + number)))
    assert len(list((tmp_path / "pictures" / "bo").iterdir())) < 9, "they push out their own"
    kept = asyncio.run(uploads.attached(ann, mine))
    assert kept is not None and kept.ref is not None
    with pytest.raises(NamepinError, match="E120"):
        asyncio.run(uploads.attached(ann, theirs))


def _within(store: FileStore, most: int, keep: str) -> None:
    store.max_bytes = most
    MAKE_ROOM(store, keep)
