"""The chat without a language model: a rule-based chat model. It calls the same tools and says that it uses rules.

It is an ordinary LangChain chat model, so the agent, its tools, its streaming and its sessions stay the same.
"""

import json
import re
from typing import Any
from uuid import uuid4

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult

NOTE = "There is no chat model here, so I answer a fixed set of questions. Send `help` to see them."
HELP = """Send a post, with its picture if it has one. I find its names, their types, and their places in the picture.

Then you can ask about that post:
- Why a name got its type or its place: `why is the second one not in the picture?` or `explain Angelina Jolie`.
- Where something is, even if it was not found in the text: `where is the Eiffel Tower?`
- For a mask of one name or of a box in pixels: `mask the second one` or `mask 10, 20, 200, 300`.
- For another reading with a different threshold: `again with gamma 0.4`. A lower value asks the reranker more often.
- For the same post read by every profile on offer: `compare profiles`.
- For the names as a file: `as CSV`, `as JSON` or `as a table`.

Any other message is read as a new post. To have a question read as a post, write `post:` before it.
There is no chat model here: these are all the questions that I can answer."""

_LEAD = re.compile(
    r"^\s*(?:please\s+)?(?:post|extract(?:\s+(?:the\s+)?(?:named\s+)?(?:entities|names))?(?:\s+(?:from|in|of)\s+(?:this|the)\s+"
    r"(?:post|tweet|text))?)\s*[:：]\s*",
    re.IGNORECASE,
)
_NUMBER = r"(\d+(?:\.\d+)?)"
_BOX = re.compile(rf"{_NUMBER}\s*[,;\s]\s*{_NUMBER}\s*[,;\s]\s*{_NUMBER}\s*[,;\s]\s*{_NUMBER}")
_GAMMA = re.compile(r"\bgamma\b\D{0,12}?(\d+(?:\.\d+)?|\.\d+)", re.IGNORECASE)
_FORM = re.compile(
    r"^\W*(?:show|give|write|export|and|now|me|it|that|this|result|the|\s)*\b(?:as|in)\s+(?:an?\s+)?(csv|json|table)\W*$",
    re.I,
)
_WHERE = re.compile(
    r"^\s*(?:where\s+(?:is|are)|find|ground|look\s+for)\s+(.{1,200}?)\s*(?:in\s+the\s+(?:picture|image|photo))?\W*$",
    re.I,
)
_LONGEST_QUESTION = 200
_SMALL_TALK = re.compile(
    r"^\W*(?:(?:many\s+)?thanks|thank\s+you|thx|ty|cheers|ok(?:ay)?|cool|nice|great|perfect|good\s+job|well\s+done|bye|"
    r"good\s*bye|see\s+you)(?:\s+(?:a\s+lot|so\s+much|very\s+much|for\s+(?:that|this)|namepin|then|work|again))*\W*$",
    re.I,
)
_HOW_SURE = re.compile(
    r"^\s*(?:how\s+(?:sure|certain|confident)|are\s+you\s+(?:sure|certain)|is\s+that\s+(?:right|really|true))\b", re.I
)
_THAT = re.compile(r"\s*(?:are\s+you\s+)?(?:about\s+)?that\s+(?!is\b|one\b)", re.I)
"""The word before a clause, "that Ada is right", which points at nothing."""
_QUESTION = re.compile(
    r"^\s*(?:(?:and\s+)?(?:what|who|whom|whose|which|when|how|why)\b|(?:is|are|was|were|do|does|did|can|could|will|would)\s+"
    r"(?:you|it|that|this|he|she|they|there|the|her|his)\b).*\?\s*$",
    re.I,
)
WELCOME = "You are welcome. Send the next post, or ask about the last one: `help` lists what I can answer."
UNCLEAR = """Is that a question about the last post, or a new post?
- About the last post, I can say why a name was found or not (`why NAME?`), where it is (`where is NAME?`), and mask it.
- To have it read as a post, send it again with `post:` before it."""


class RuleModel(BaseChatModel):
    """Routes the last message to one tool call, then repeats the tool's answer."""

    @property
    def _llm_type(self) -> str:
        return "namepin-rules"

    def bind_tools(self, tools: Any, **_: Any) -> "RuleModel":
        """Return itself: the rules have fixed tools."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        last = messages[-1]
        if isinstance(last, ToolMessage):
            words = last.artifact["words"] if last.artifact else str(last.content)
            first = sum(isinstance(message, HumanMessage) for message in messages) == 1
            answer = AIMessage(f"{words}\n\n{NOTE}" if first else words)
        else:
            known = _names(messages)
            tool, arguments = route(str(last.content), known)
            if tool is None:
                answer = AIMessage(arguments.get("reply", HELP))
            else:
                call = {"name": tool, "args": arguments, "id": f"rule-{uuid4().hex[:12]}", "type": "tool_call"}
                answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


def route(message: str, known: list[str] | None) -> tuple[str | None, dict[str, Any]]:
    """The tool for a message and its arguments.

    Where no tool is called it is None, with `{"reply": text}`, or without it for the help. A short question that no
    tool answers is neither read as a post nor guessed at: the reply asks which it is.

    Only a short message can be a question, and only after the first post. A word in a post therefore never turns the
    post into an instruction.

    Args:
        message: the user's message.
        known: the names of the last post; None before the first post.
    """
    text = message.strip()
    if known is not None and _SMALL_TALK.match(text):
        return None, {"reply": WELCOME}
    if not text or text.casefold().strip(" ?!.") in ("help", "hello", "hi", "?"):
        return None, {}
    if lead := _LEAD.match(text):
        return "extract", {"text": text[lead.end() :].strip() or text}
    if known is None or len(text) > _LONGEST_QUESTION or "\n" in text:
        return "extract", {"text": text}
    words = text.casefold()
    if form := _FORM.match(text):
        return "show", {"form": form[1].casefold()}
    if gamma := _GAMMA.search(text):
        return "rerun", {"gamma": float(gamma[1])}
    if re.match(r"^\s*compare\b", words):
        return "compare", {}
    if re.match(r"^\s*(please\s+)?(mask|segment|cut out)\b", words):
        box = _BOX.search(text)
        return "segment", {"box": [float(value) for value in box.groups()]} if box else {"which": text}
    if re.match(r"^\s*(why|how come|explain)\b", words) and _is_about(words, known):
        return "explain", {"which": re.sub(r"^\s*(why|how come|explain)\b", "", text, flags=re.I).strip() or text}
    if where := _WHERE.match(text):
        return "ground", {"name": where[1].strip(" ?\"'")}
    if (sure := _HOW_SURE.match(text)) and _is_about(words, known):
        clause = _THAT.match(text, sure.end())
        return "explain", {"which": text[clause.end() :] if clause else text}
    if _QUESTION.match(text) or _HOW_SURE.match(text):
        return None, {"reply": UNCLEAR}
    return "extract", {"text": text}


def _is_about(words: str, known: list[str]) -> bool:
    pointing = r"\b(he|she|it|him|her|they|this|that|picture|image|photo|first|second|third|last|\d{1,2})\b"
    return bool(re.search(pointing, words)) or any(name.casefold() in words for name in known) or len(known) == 1


def _names(messages: list[BaseMessage]) -> list[str] | None:
    """The names of the conversation's last extraction."""
    for message in reversed(messages):
        if isinstance(message, ToolMessage) and message.name in ("extract", "rerun") and message.status == "success":
            return [str(row["text"]) for row in json.loads(str(message.content)).get("names", [])]
    return None
