"""The page's conversation: messages in, HTML out. All shown content is read from the stored conversation."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from pydantic import ValidationError

from namepin.agent.api import Namepin
from namepin.agent.chat.agent import Agent, Chunk, stream_answer
from namepin.agent.chat.answers import rows_of
from namepin.agent.chat.state import Answer, ChatContext, RememberedPost
from namepin.agent.checkpointer import damage_error
from namepin.agent.render.html import About
from namepin.agent.server.reviews import Reviewed
from namepin.agent.server.state import ServerState
from namepin.agent.stores.pictures import Attachment
from namepin.agent.web import fragments
from namepin.agent.web.examples import examples
from namepin.agent.web.steps import Steps
from namepin.agent.web.uploads import Uploads
from namepin.agent.web.visitors import Visitor, Visitors
from namepin.graphs.review_nodes import close_calls
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import LoadedImage
from namepin.tools.types import Extraction, ImageRef

_TURNS = 30
"""Number of shown turns; older turns stay in the conversation."""


@dataclass(frozen=True)
class Result:
    """One answer's extraction with its profile, gamma and all overridden settings."""

    extraction: Extraction
    about: About
    overrides: Mapping[str, Any]


class PageConversation:
    """The conversations of all visitors.

    Args:
        state: the server's parts.
        uploads: the pictures that visitors have sent.
        visitors: the visitors and their rights.
        agent: the conversation's graph, with its checkpointer.
    """

    def __init__(self, state: ServerState, uploads: Uploads, visitors: Visitors, agent: Agent) -> None:
        self.state, self.uploads, self.visitors, self.agent = state, uploads, visitors, agent
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._answering: Counter[str] = Counter()

    async def answer(
        self, visitor: Visitor, message: str, picture: Attachment | None, profile: str | None
    ) -> AsyncIterator[str]:
        """Stream the answer: the current turn's HTML, repeated as it grows.

        Raises:
            NamepinError: E20x for the profile, E101, E108, E31x as `stream_answer`.
            TooMany: the rate is exceeded, or the server is busy.
        """
        self.visitors.access.count(visitor.owner)
        profile = profile or self.state.pins.profiles[0]
        await asyncio.to_thread(self.state.pins.get, profile)
        context = ChatContext(self.state.pins, self.uploads.of(visitor), profile, heat=self.state.heat)
        shown = fragments.Turn(message or "(a picture)", steps=Steps())
        if picture is not None and picture.ref is not None:
            shown.picture, shown.image = self._address(visitor, picture.ref), picture.ref
        yield fragments.turn(shown)
        async with self.lock(visitor), self.state.admission(profile).turn(visitor.owner):
            async for event in stream_answer(self.agent, message, picture, context, visitor.thread):
                if isinstance(event, Answer):
                    continue
                _grow(shown, event)
                yield fragments.turn(shown)

    @contextmanager
    def answering(self, visitor: Visitor) -> Iterator[None]:
        """Mark the visitor's message as being answered, from its arrival on."""
        self._answering[visitor.key] += 1
        try:
            yield
        finally:
            self._answering -= Counter({visitor.key: 1})  # drops a key at 0

    def is_answering(self, visitor: Visitor) -> bool:
        """Whether a message of the visitor is being answered."""
        return visitor.key in self._answering

    def lock(self, visitor: Visitor) -> asyncio.Lock:
        """The lock for changes to the visitor's conversation."""
        return self._locks.setdefault(visitor.key, asyncio.Lock())

    def reviews(self, visitor: Visitor) -> dict[str, Reviewed]:
        """The reviews of the conversation's results: waiting reviews by their source, finished ones by their result."""
        return {
            stored.source if stored.state == "waiting" else fragments.anchor(review_call(stored.id)): stored
            for stored in self.state.reviews.list(visitor.jobs_owner)
        }

    async def history(self, visitor: Visitor) -> str:
        """The conversation so far, as HTML."""
        turns: list[fragments.Turn] = []
        values = await self._values(visitor)
        shown: list[str] = []
        image: ImageRef | None = None
        reviews = await asyncio.to_thread(self.reviews, visitor)
        for message in _messages(values):
            if isinstance(message, HumanMessage):
                turns.append(fragments.Turn(str(message.content) or "(a picture)"))
                shown = []
            elif turns and isinstance(message, ToolMessage) and message.artifact:
                answer = _answer(message)
                image = answer.extraction.image if answer.extraction else image
                block = await self._block(visitor, message.tool_call_id, answer, values, reviews, image)
                turns[-1].blocks.append(block)
                shown.append(answer.words)
            elif turns and isinstance(message, AIMessage) and message.text:
                text = str(message.text)
                for words in shown:  # the rules repeat the tool's answer, which is already shown
                    text = text.removeprefix(words).strip()
                turns[-1].text = "\n\n".join(filter(None, [turns[-1].text, text]))
        if not turns:
            return fragments.part("empty", examples=examples())
        turns[-1].ask = [one for block in turns[-1].blocks for one in block.ask]
        # Tracing masks and filling templates would block the event loop.
        return await asyncio.to_thread(lambda: "".join(fragments.turn(turn) for turn in turns[-_TURNS:]))

    async def spoken_answer(self, visitor: Visitor) -> str:
        """The last answer as text, for screen readers."""
        messages = _messages(await self._values(visitor))
        return next((str(m.text) for m in reversed(messages) if isinstance(m, AIMessage) and m.text), "")

    async def result(self, visitor: Visitor, name: str) -> Result | None:
        """The extraction of one of the visitor's answers; None if there is none."""
        values = await self._values(visitor)
        answer = _find(values, name)
        if answer is None or answer.extraction is None:
            return None
        _, overrides = self._made_with(answer.extraction, values)
        return Result(answer.extraction, await self._about(answer.extraction, values), overrides)

    async def table(self, visitor: Visitor, name: str) -> list[dict[str, str]] | None:
        """The rows of one of the visitor's answers: its table, or the names of its extraction; None if it has none."""
        answer = _find(await self._values(visitor), name)
        if answer is None or (answer.table is None and answer.extraction is None):
            return None
        return answer.table if answer.extraction is None else rows_of(answer.extraction)

    async def picture(self, visitor: Visitor, extraction: Extraction) -> LoadedImage | None:
        """An extraction's picture; None if it has none or the picture is no longer stored."""
        try:
            return await self.uploads.of(visitor).aopen(extraction.image) if extraction.image else None
        except NamepinError:
            return None

    async def _values(self, visitor: Visitor) -> dict[str, Any]:
        return dict((await self.agent.aget_state(visitor.thread)).values)

    async def _block(
        self,
        visitor: Visitor,
        call: str,
        answer: Answer,
        values: dict[str, Any],
        reviews: Mapping[str, Reviewed],
        image: ImageRef | None,
    ) -> fragments.Block:
        name = fragments.anchor(call)
        address = self._address(visitor, image) if image else None
        extraction = answer.extraction if answer.kind == "extraction" else None
        if extraction is None:
            return fragments.Block(answer, name, picture=address, image=image)
        stored = await asyncio.to_thread(self.state.heat.of, extraction)
        return fragments.Block(
            answer,
            name,
            await self._about(extraction, values),
            address if extraction.image else None,
            heat={index: f"/page/results/{name}/heat/{index}.png" for index in stored},
            review=reviews.get(name),
            close=await self._close(extraction, values),
            image=extraction.image,
        )

    def _address(self, visitor: Visitor, image: ImageRef) -> str:
        return f"/page/pictures/{self.uploads.sign(visitor, image)}.jpg"

    async def _about(self, extraction: Extraction, values: dict[str, Any]) -> About:
        profile, _ = self._made_with(extraction, values)
        pin = await self._pin(extraction, values)
        return About(profile, pin.settings.gate.gamma, pin.settings.match.threshold) if pin else About(profile)

    async def _close(self, extraction: Extraction, values: dict[str, Any]) -> int:
        pin = await self._pin(extraction, values)
        if pin is None:
            return 0
        return close_calls(extraction.entities, pin.settings.review, pin.settings.gate, pin.settings.match.threshold)

    async def _pin(self, extraction: Extraction, values: dict[str, Any]) -> Namepin | None:
        """The profile behind a result; None if it is no longer offered."""
        try:
            return await asyncio.to_thread(self.state.pins.get, *self._made_with(extraction, values))
        except NamepinError:
            return None

    def _made_with(self, extraction: Extraction, values: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The profile behind a result, and the overridden settings."""
        seen: list[RememberedPost] = values.get("seen", [])
        try:
            made = next((one for one in reversed(seen) if one["extraction"]["id"] == extraction.id), None)
            return (made["profile"], made["overrides"]) if made else (self.state.pins.profiles[0], {})
        except (KeyError, TypeError) as error:
            raise damage_error() from error


def _grow(shown: fragments.Turn, event: Chunk) -> None:
    shown.text += event.text
    if shown.steps is not None and event.tool:
        shown.steps.call(event.tool)
    if shown.steps is not None and event.step:
        shown.steps.add(event.step)


def _find(values: Mapping[str, Any], name: str) -> Answer | None:
    """The answer whose name in the page this is."""
    for message in _messages(values):
        if isinstance(message, ToolMessage) and message.artifact and fragments.anchor(message.tool_call_id) == name:
            return _answer(message)
    return None


def _messages(values: Mapping[str, Any]) -> list[Any]:
    messages = values.get("messages", [])
    if not isinstance(messages, list):
        raise damage_error()
    return messages


def _answer(message: ToolMessage) -> Answer:
    try:
        return Answer.model_validate(message.artifact)
    except ValidationError as error:
        raise damage_error() from error


def review_call(review_id: str) -> str:
    """The name of the call in the conversation whose answer is a review's result."""
    return f"review-{review_id}"
