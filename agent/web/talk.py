"""The page's conversation: messages in, HTML out; everything shown is read back from the kept conversation."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from agent.chat.agent import Agent, stream_answer
from agent.chat.pictures import Pictures
from agent.chat.state import Answer, ChatContext, Seen
from agent.render.html import About
from agent.server.state import ServerState
from agent.web import fragments
from agent.web.visitors import Visitor, Visitors
from tools.errors import NamepinError
from tools.images import LoadedImage
from tools.types import Extraction, ImageRef

_TURNS = 30
"""Turns that are shown; older ones stay in the conversation."""


@dataclass(frozen=True)
class Result:
    """One answer's extraction, and what it was made with."""

    extraction: Extraction
    about: About


class Talk:
    """The conversations of all visitors.

    Args:
        state: the server's parts.
        pictures: where uploads are kept.
        visitors: who may see which.
        agent: the conversation's graph, with its checkpointer.
    """

    def __init__(self, state: ServerState, pictures: Pictures, visitors: Visitors, agent: Agent) -> None:
        self.state, self.pictures, self.visitors, self.agent = state, pictures, visitors, agent
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def answer(
        self, visitor: Visitor, message: str, picture: ImageRef | None, profile: str | None
    ) -> AsyncIterator[str]:
        """The answer as it is written: the current turn's HTML, again and again.

        Raises:
            NamepinError: E20x for the profile, E101, E108, E31x as `stream_answer`.
            TooMany: over the rate, or the server is busy.
        """
        self.visitors.access.count(visitor.owner)
        profile = profile or self.state.pins.profiles[0]
        await asyncio.to_thread(self.state.pins.get, profile)
        context = ChatContext(self.state.pins, self.pictures, profile)
        lock = self._locks.setdefault(visitor.key, asyncio.Lock())
        doing, text = "Reading", ""
        yield fragments.turn(fragments.Turn(message or "(a picture)", doing=doing))
        async with lock, self.state.admission(profile).turn():
            async for event in stream_answer(self.agent, message, picture, context, visitor.thread):
                if isinstance(event, Answer):
                    continue
                doing, text = (event.tool, text) if event.tool else (doing, text + event.text)
                yield fragments.turn(fragments.Turn(message or "(a picture)", text=text, doing=doing))

    async def history(self, visitor: Visitor) -> str:
        """The conversation so far, as HTML."""
        turns: list[fragments.Turn] = []
        values = await self._values(visitor)
        told: list[str] = []
        for message in values.get("messages", []):
            if isinstance(message, HumanMessage):
                turns.append(fragments.Turn(str(message.content) or "(a picture)"))
                told = []
            elif turns and isinstance(message, ToolMessage) and message.artifact:
                answer = Answer.model_validate(message.artifact)
                turns[-1].blocks.append(await self._block(visitor, message.tool_call_id, answer, values))
                told.append(answer.words)
            elif turns and isinstance(message, AIMessage) and message.text:
                text = str(message.text)
                for words in told:  # the rules repeat what a tool said, which stands there already
                    text = text.removeprefix(words).strip()
                turns[-1].text = "\n\n".join(filter(None, [turns[-1].text, text]))
        if not turns:
            return fragments.part("empty")
        # Masks are traced and templates filled: not on the event loop.
        return await asyncio.to_thread(lambda: "".join(fragments.turn(turn) for turn in turns[-_TURNS:]))

    async def spoken(self, visitor: Visitor) -> str:
        """The last answer in words, for those who listen."""
        messages = (await self._values(visitor)).get("messages", [])
        return next((str(m.text) for m in reversed(messages) if isinstance(m, AIMessage) and m.text), "")

    async def result(self, visitor: Visitor, name: str) -> Result | None:
        """The extraction of one of the visitor's answers; None where there is none."""
        values = await self._values(visitor)
        for message in values.get("messages", []):
            if isinstance(message, ToolMessage) and message.artifact and fragments.anchor(message.tool_call_id) == name:
                extraction = Answer.model_validate(message.artifact).extraction
                return None if extraction is None else Result(extraction, await self._about(extraction, values))
        return None

    async def picture(self, extraction: Extraction) -> LoadedImage | None:
        """An extraction's picture, where it has one and it is still kept."""
        try:
            return await asyncio.to_thread(self.pictures.open, extraction.image) if extraction.image else None
        except NamepinError:
            return None

    async def _values(self, visitor: Visitor) -> dict[str, Any]:
        return dict((await self.agent.aget_state(visitor.thread)).values)

    async def _block(self, visitor: Visitor, call: str, answer: Answer, values: dict[str, Any]) -> fragments.Block:
        extraction = answer.extraction if answer.kind in ("extraction", "mask") else None
        if extraction is None:
            return fragments.Block(answer)
        address = None
        if extraction.image:
            address = f"/page/pictures/{self.visitors.sign(visitor, extraction.image.sha256)}.jpg"
        return fragments.Block(answer, fragments.anchor(call), await self._about(extraction, values), address)

    async def _about(self, extraction: Extraction, values: dict[str, Any]) -> About:
        seen: list[Seen] = values.get("seen", [])
        made = next((one for one in reversed(seen) if one["extraction"]["id"] == extraction.id), None)
        profile = made["profile"] if made else self.state.pins.profiles[0]
        try:
            pin = await asyncio.to_thread(self.state.pins.get, profile, made["overrides"] if made else {})
        except NamepinError:
            return About(profile)  # not offered any more
        return About(profile, pin.settings.gate.gamma)


def picture_of(visitors: Visitors, pictures: Pictures, visitor: Visitor, signed: str) -> ImageRef | None:
    """The picture that the visitor uploaded; None for no picture.

    Raises:
        NamepinError: E120 when it is not the visitor's, or not kept any more.
    """
    if not signed:
        return None
    sha256 = visitors.check(visitor, signed)
    if sha256 is None or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise NamepinError("E120", "the picture is not kept any more", mend="choose it again")
    return pictures.find(sha256).ref
