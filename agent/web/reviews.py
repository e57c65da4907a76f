"""Close decisions on the page: a result's questions, the visitor's answers, and the new turn in the conversation."""

import json
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from namepin.agent.chat import phrasing
from namepin.agent.chat.answers import attached_to, describe, remember
from namepin.agent.server.reviews import Reviewed
from namepin.agent.web.conversation import PageConversation, review_call
from namepin.agent.web.visitors import Visitor
from namepin.tools.errors import NamepinError


async def begin(talk: PageConversation, visitor: Visitor, name: str) -> Reviewed | None:
    """Run a result's post again and stop at close decisions; None for an unknown result of the visitor.

    Raises:
        NamepinError: E120 when its picture is no longer stored; as `Reviews.begin`.
        TooMany: the server is busy, or the visitor has too many reviews.
    """
    found = await talk.result(visitor, name)
    if found is None:
        return None
    waiting = talk.reviews(visitor).get(name)
    if waiting is not None:
        return waiting
    extraction, overrides = found.extraction, found.overrides
    picture = talk.uploads.of(visitor).read(extraction.image.sha256) if extraction.image else None
    row = {"id": extraction.id, "text": extraction.text}
    gamma = overrides.get("gate", {}).get("gamma")
    reviews, owner = talk.state.reviews, visitor.jobs_owner
    async with talk.state.admission(found.about.profile).turn(visitor.owner):
        notices = attached_to(extraction).notices
        begun = await reviews.begin(owner, row, picture, found.about.profile, gamma, notices, source=name)
    if begun.state == "done":  # the settings have changed, so that no decision is close
        await reviews.delete(owner, begun.id)
    return begun


async def answer(talk: PageConversation, visitor: Visitor, review_id: str, answers: dict[str, Any]) -> Reviewed | None:
    """Answer the questions. A finished review becomes a turn of the conversation. None for an unknown review.

    Raises:
        NamepinError: as `Reviews.answer`.
        TooMany: the server is busy.
    """
    reviews, owner = talk.state.reviews, visitor.jobs_owner
    waiting = reviews.get(owner, review_id)
    if waiting is None:
        return None
    async with talk.state.admission(waiting.profile).turn(visitor.owner):
        now = await reviews.answer(owner, review_id, answers)
    if now is not None and now.extraction is not None:
        await _record(talk, visitor, now)
    return now


async def _record(talk: PageConversation, visitor: Visitor, done: Reviewed) -> None:
    """Add the decisions and the result to the conversation, so that the next question is about the result."""
    if done.extraction is None:
        raise NamepinError("E333", "there are questions left", mend="answer them first")
    decisions = "; ".join(phrasing.phrase_decision(one.question, one.answer) for one in done.answered)
    found, call = describe(done.extraction, done.profile), review_call(done.id)
    messages = [
        HumanMessage(f"I decide: {decisions}"),
        AIMessage("", tool_calls=[{"name": "review", "args": {}, "id": call}]),
        ToolMessage(
            json.dumps(found.facts, ensure_ascii=False),
            artifact=found.model_dump(mode="json"),
            tool_call_id=call,
            name="review",
        ),
        AIMessage(found.words),
    ]
    overrides = {} if done.gamma is None else {"gate": {"gamma": done.gamma}}
    async with talk.lock(visitor):
        seen = [remember(done.extraction, done.profile, overrides)]
        await talk.agent.aupdate_state(visitor.thread, {"messages": messages, "seen": seen}, as_node="model")
