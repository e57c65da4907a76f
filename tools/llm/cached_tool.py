"""Shared by tools with a chat model: answers are cached on disk, equal questions are sent once, and repaired once."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from namepin.tools.base import canonical_json, fingerprint
from namepin.tools.caching.disk import DiskCache, default_cache_dir
from namepin.tools.llm.client import Ask, ChatClient, Reply, without_key
from namepin.tools.llm.config import CachedChatConfig
from namepin.tools.types import Frozen

Question = TypeVar("Question", bound=Frozen)
Answer = TypeVar("Answer", bound=Frozen)
Value = TypeVar("Value")


class Unusable(str):
    """Why a reply is not an answer, as text that may go back to the model."""


class CachedChatTool(Generic[Question, Answer]):
    """A tool that asks a chat model. Answers are cached on disk by fingerprint and question.

    A subclass has `name`, `decides` and `prompt_digest`, and calls `answers` in its `run`.

    Args:
        config: the model and the cache.
        kind: the type of an answer.
        asks_for: the role that failures name; None is the tool's own name.

    Raises:
        NamepinError: E310, E311 where the client cannot start (`ChatClient`).
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    decides: ClassVar[frozenset[str]]
    """The fields of the configuration that affect an answer, beside the model and its sampling."""
    prompt_digest: ClassVar[str]

    def __init__(self, config: CachedChatConfig, kind: type[Answer], asks_for: str | None = None) -> None:
        self._client = ChatClient(config, asks_for or self.name)
        self._kind, self._settings = kind, config.model_dump(mode="json", include=set(self.decides))
        folder = (config.cache_dir or default_cache_dir()) / self.name
        self._cache = DiskCache(folder, config.cache_mb * 2**20) if config.cache else None

    @property
    def fingerprint(self) -> str:
        """Covers the model, sampling, prompt and settings that affect an answer; not the server's address."""
        settings = {**self._client.identity, **self._settings}
        return fingerprint(self.name, self.version, settings, prompt=self.prompt_digest)

    def recall(self, question: Question) -> Answer | None:
        """The answer if it is known without the model, else None."""
        value = self._cache.get(self.fingerprint, question) if self._cache else None
        try:
            return self._kind.model_validate_json(value) if value else None
        except ValueError:  # stored by another release
            return None

    def answers(
        self, work: Callable[[Ask, Question], Awaitable[Answer]], questions: Sequence[Question]
    ) -> list[Answer]:
        """One answer per question, in order: the recalled one, else the result of `work`, which is then cached.

        Raises:
            ToolUnavailable: when `work` raises it; the other answers are then in the cache.
        """
        keys = [canonical_json(question) for question in questions]
        by_key = dict(zip(keys, questions, strict=True))

        async def find(ask: Ask, key: str) -> Answer:
            answer = without_key(await work(ask, by_key[key]))
            if self._cache:
                self._cache.put(self.fingerprint, by_key[key], answer.model_dump_json())
            return answer

        return self._client.answers(find, lambda key: self.recall(by_key[key]), keys)


async def ask_with_repair(
    ask: Ask,
    messages: Sequence[BaseMessage],
    read: Callable[[Reply], Value | Unusable],
    complain: Callable[[Unusable], str],
    *,
    extra: Mapping[str, Any] | None = None,
    shown: int = 200,
) -> tuple[Value | Unusable, list[Reply]]:
    """Ask the model. After an unusable reply, send the reply and a complaint, and ask once more.

    Args:
        ask: one question to the model.
        messages: the conversation.
        read: parses a reply into an answer.
        complain: the complaint about an unusable reply.
        extra: as in `Ask`.
        shown: number of characters of an unusable reply that go back to the model.

    Returns:
        The answer, or the problem of the second reply, both without the key; and the replies.

    Raises:
        ToolUnavailable: as `Ask`.
    """
    replies = [await ask(messages, extra)]
    answer = without_key(read(replies[0]))
    if isinstance(answer, Unusable):
        complaint = HumanMessage(complain(answer))
        replies.append(await ask([*messages, AIMessage(without_key(replies[0].text)[:shown]), complaint], extra))
        answer = without_key(read(replies[1]))
    return answer, replies


def total_tokens(replies: Sequence[Reply]) -> tuple[int | None, int | None]:
    """Prompt and completion tokens of all replies; None where the server does not report them."""
    return _total([reply.prompt_tokens for reply in replies]), _total([reply.completion_tokens for reply in replies])


def _total(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
