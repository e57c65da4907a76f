"""The conversation's model: bounded whatever its server knows, and harmless when it obeys what strangers wrote."""

import asyncio
from pathlib import Path

import pytest
from langgraph.checkpoint.memory import InMemorySaver

from namepin.agent.chat.agent import build_agent, lead_model, stream_answer
from namepin.agent.chat.state import Answer, ChatContext
from namepin.agent.checkpointer import thread_of
from namepin.agent.config.sections import ChatSettings
from namepin.agent.stores.pictures import Pictures
from namepin.agent.stores.profile_pool import ProfilePool
from support.chat_server import Server, serve

POST = "Bob Dylan in Oslo"


def context_of(folder: Path) -> ChatContext:
    return ChatContext(ProfilePool(["starter"]), Pictures(folder), "starter")


class Talk:
    """One conversation with the model of a server."""

    def __init__(self, server: Server, context: ChatContext, owner: str = "me", **limits: int) -> None:
        settings = ChatSettings(model="m", base_url=server.url, retries=0, max_tokens=77, **limits)
        self.context, self.config = context, thread_of(owner, "talk")
        self.agent = build_agent(lead_model(settings), settings, InMemorySaver())

    def say(self, message: str, picture: bytes | None = None) -> tuple[str, list[Answer]]:
        async def main() -> tuple[str, list[Answer]]:
            ref = self.context.pictures.keep(picture) if picture else None
            events = [e async for e in stream_answer(self.agent, message, ref, self.context, self.config)]
            answers = [event for event in events if isinstance(event, Answer)]
            return "".join(event.text for event in events if not isinstance(event, Answer)).strip(), answers

        return asyncio.run(main())


NEW, OLD = "max_completion_tokens", "max_tokens"


@pytest.mark.parametrize(
    ("refuses", "kept"), [(set(), {NEW, OLD}), ({NEW}, {OLD}), ({OLD}, {NEW}), ({NEW, OLD}, {NEW})], ids=str
)
def test_answers_are_bounded_under_the_name_that_the_server_knows(
    tmp_path: Path, refuses: set[str], kept: set[str]
) -> None:
    with serve(("extract", {"text": POST}), "done") as server:
        server.refuses = frozenset(refuses)
        said, answers = Talk(server, context_of(tmp_path)).say(POST)
        assert said == "done" and [answer.kind for answer in answers] == ["extraction"]
        sent = [{name: body[name] for name in (NEW, OLD) if name in body} for body in server.bodies]
    assert all(sent) and sent[-2:] == 2 * [dict.fromkeys(kept, 77)], "learned once, and kept"
    assert len(sent) == 2 + bool(refuses)
