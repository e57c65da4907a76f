"""The chat agent for LangGraph's server: pictures are part of messages, the client's JSON names profiles."""

import asyncio
from typing import Annotated, Any

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import HumanMessage
from langgraph.runtime import Runtime
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from namepin.agent.chat.agent import Agent, build_agent, lead_model
from namepin.agent.chat.state import ChatState, picture_update
from namepin.agent.stores.pictures import Attachment, Pictures, decode_base64
from namepin.agent.stores.profile_pool import ProfilePool
from namepin.agent.studio.runtime import coded_errors, studio_runtime
from namepin.tools.errors import NamepinError


@dataclass(config=ConfigDict(extra="forbid"))
class StudioConversation:
    """A conversation's `ChatContext` as a client may set it.

    Attributes:
        profile: the profile that reads posts; empty for the server's own.
    """

    profile: Annotated[str, Field(max_length=100)] = ""

    def __post_init__(self) -> None:
        """The named profile, else the server's own."""
        self.profile = self.profile or self.pins.profiles[0]

    @property
    def pins(self) -> ProfilePool:
        """The offered profiles."""
        return studio_runtime().pins

    @property
    def pictures(self) -> Pictures:
        """The store of pictures."""
        return studio_runtime().pictures

    @property
    def overrides(self) -> dict[str, Any]:
        """Always empty: a follow-up sends another gamma."""
        return {}

    @property
    def heat(self) -> None:
        """Always None: heat maps are never drawn here."""
        return None


class TakesPictures(AgentMiddleware[ChatState, Any]):
    """Moves the last message's picture to the folder of pictures; the state gets its content hash."""

    async def abefore_agent(self, state: ChatState, runtime: Runtime[Any]) -> dict[str, Any] | None:
        """Store the picture. A message without a picture changes nothing.

        Raises:
            Refused: E12x when it is not a picture, E126 for a picture given by address.
        """
        message = state["messages"][-1]
        if not isinstance(message, HumanMessage) or isinstance(message.content, str):
            return None
        picture: dict[str, Any] = {}
        with coded_errors():
            for block in message.content_blocks:
                if block["type"] == "image":
                    picture = picture_update(await asyncio.to_thread(_attach, block.get("base64")))
        return {"messages": [HumanMessage(message.text, id=message.id)], **picture}


def _attach(data: str | None) -> Attachment:
    if data is None:
        raise NamepinError("E126", "this server does not read addresses", mend="send the picture itself, as base64")
    return studio_runtime().pictures.attach(decode_base64(data))


def build() -> Agent:
    """The agent; LangGraph's server keeps its threads."""
    settings = studio_runtime().chat
    return build_agent(lead_model(settings), settings, context_schema=StudioConversation, middleware=[TakesPictures()])
