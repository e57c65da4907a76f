"""The client for chat models behind OpenAI-compatible servers: bounded, with retries, and never showing its key."""

import asyncio
import importlib.util
import ipaddress
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

from langchain_core.messages import BaseMessage

from namepin.tools.concurrency import run_sync
from namepin.tools.errors import Exit, NamepinError, ToolUnavailable, install_command
from namepin.tools.llm.answers import last_object
from namepin.tools.llm.config import KEY_VARIABLE, THOUGHTS, ChatConfig
from namepin.tools.llm.permission import REQUESTS_ALLOWED, RequestNeeded
from namepin.tools.llm.servers import servers_of
from namepin.tools.llm.usage import record_usage
from namepin.tools.redaction import without_secret
from namepin.tools.types import Frozen

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

_NOT_SHOWN = "nostream"
"""LangGraph's tag (`langgraph.constants.TAG_NOSTREAM`) for what is not part of the answer that a graph streams."""

_NO_KEY = "none"
"""The placeholder for servers without authentication, since the SDK always sends a key."""

Item = TypeVar("Item")
Question = TypeVar("Question", bound=Hashable)
Answer = TypeVar("Answer")
Value = TypeVar("Value")


class AnswerToken(Frozen):
    """One token of an answer, and the log-probabilities of the alternatives at its place, including itself."""

    token: str
    likely: Mapping[str, float]


class Reply(Frozen):
    """A model's reply as it came; `cut` means that it reached the token bound.

    What is shown or kept of it goes through `without_key`, before it is shortened.

    `tokens` are set where `logprobs` was requested and the server gives them.
    """

    text: str
    cut: bool = False
    lack: str = ""
    """Why the reply has no text, as a message; empty where it has text."""
    tokens: tuple[AnswerToken, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Ask(Protocol):
    """One question to the model, retries included."""

    def __call__(self, messages: Sequence[BaseMessage], extra: Mapping[str, Any] | None = None) -> Awaitable[Reply]:
        """Ask it.

        Args:
            messages: the conversation.
            extra: further fields of the request's body, such as a guide for the answer.

        Raises:
            ToolUnavailable: without a usable answer after all attempts.
        """
        ...


class ChatClient:
    """Asks a chat model on behalf of the tool named `tool`.

    Raises:
        NamepinError: E310 when the extra `llm` is not installed, E311 for OpenAI's own server without a key.
    """

    def __init__(self, config: ChatConfig, tool: str) -> None:
        if config.model is None:
            raise ValueError("a chat client needs a model")
        self.config, self.tool = config, tool
        self._servers = servers_of(config.addresses)
        if importlib.util.find_spec("langchain_openai") is None:
            raise NamepinError(
                "E310",
                "the package langchain-openai is missing",
                where=tool,
                mend=install_command("namepin[llm]"),
                exit_code=Exit.UNREACHABLE,
            )
        if config.base_url is None and not os.environ.get(KEY_VARIABLE):
            raise NamepinError(
                "E311",
                f"{KEY_VARIABLE} is not set",
                where=tool,
                mend=f"set it, or give a `base_url` of your own server with `--set {tool}.base_url=...`",
                exit_code=Exit.UNREACHABLE,
            )

    @property
    def identity(self) -> Mapping[str, Any]:
        """The settings that affect an answer, for fingerprints: model and sampling; not address, timeouts or key."""
        return self.config.model_dump(include={"model", "max_tokens", "temperature", "seed", "json_mode"})

    def map(
        self, work: Callable[[Ask, Item], Awaitable[Answer]], items: Sequence[Item]
    ) -> list[Answer | ToolUnavailable]:
        """Run `work(ask, item)` for every item, `concurrency` at a time. Results are in order, failures included.

        May be called from any thread, with or without an event loop of its own.

        Raises:
            MustAsk: nothing may be asked here (`namepin.tools.llm.permission`).
        """
        if not REQUESTS_ALLOWED.get():
            raise RequestNeeded

        async def main() -> list[Answer | ToolUnavailable]:
            gate = asyncio.Semaphore(self.config.concurrency)
            async with self._open() as ask:

                async def one(item: Item) -> Answer | ToolUnavailable:
                    async with gate:
                        try:
                            return await work(ask, item)
                        except ToolUnavailable as failure:
                            return failure

                return list(await asyncio.gather(*map(one, items)))

        return run_sync(main())

    def answers(
        self,
        work: Callable[[Ask, Question], Awaitable[Answer]],
        recall: Callable[[Question], Answer | None],
        requests: Sequence[Question],
    ) -> list[Answer]:
        """One answer per request, in order: from `recall`, else from `work`. Equal requests are processed once.

        Raises:
            ToolUnavailable: the first failure, after all other requests are done.
        """
        known: dict[Question, Answer | ToolUnavailable] = {}
        missing: list[Question] = []
        for request in dict.fromkeys(requests):
            recalled = recall(request)
            if recalled is None:
                missing.append(request)
            else:
                known[request] = recalled
        if missing:
            known.update(zip(missing, self.map(work, missing), strict=True))
        failures = [answer for answer in known.values() if isinstance(answer, ToolUnavailable)]
        if failures:
            raise failures[0]
        return [answer for request in requests if not isinstance(answer := known[request], ToolUnavailable)]

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Ask]:
        """Connection pools that live as long as the event loop they belong to."""
        key = os.environ.get(KEY_VARIABLE) or _NO_KEY
        async with AsyncExitStack() as stack:
            chats = {address: await self._chat(address, key, stack) for address in self.config.addresses}

            async def ask(messages: Sequence[BaseMessage], extra: Mapping[str, Any] | None = None) -> Reply:
                return await self._ask(chats, messages, key, extra or {})

            yield ask

    async def _chat(self, address: str, key: str, stack: AsyncExitStack) -> "ChatOpenAI":
        import openai
        from pydantic import SecretStr

        from namepin.tools.llm.openai_chat import BoundedChat, takes_both_bounds

        host = urlsplit(address).hostname or ""
        # A proxy of the environment is never used for this machine.
        http = await stack.enter_async_context(openai.DefaultAsyncHttpxClient(trust_env=not _is_loopback(host)))
        return BoundedChat(
            disable_streaming=True,  # also inside a conversation, whose own answer is streamed
            tags=[_NOT_SHOWN],
            both_bounds=takes_both_bounds(self.config.base_url and address),
            model=self.config.model or "",
            base_url=address,
            api_key=SecretStr(key),
            http_async_client=http,
            openai_proxy=None,
            timeout=self.config.timeout_s,
            max_retries=0,  # `_ask` retries: the SDK's waits are fixed, and its time is bounded per read only
            max_completion_tokens=self.config.max_tokens,
            temperature=self.config.temperature,
            seed=self.config.seed,
            model_kwargs={"response_format": {"type": "json_object"}} if self.config.json_mode else {},
        )

    async def _ask(
        self, chats: "Mapping[str, ChatOpenAI]", messages: Sequence[BaseMessage], key: str, extra: Mapping[str, Any]
    ) -> Reply:
        config, note = self.config, ""
        failure, attempt, tried = _Failure(what="no answer of late"), 0, set[str]()
        for attempt in range(config.retries + 1):
            address = self._servers.take(tried)
            if address is None:
                note = f"; it failed too often, and is left out for {self._servers.back_in_s:.0f} s"
                break
            try:
                return await self._attempt(address, chats[address], messages, extra)
            except Exception as error:  # three libraries and a server: every error must become a named failure
                failure = _Failure.of(error, key)
                if failure.passing:
                    self._servers.report_failure(address, config.retries + 1)
                else:
                    self._servers.report_answer(address)
                tried.add(address)
            # The message does not name the server: results do not depend on which one answered.
            whom = urlsplit(address).netloc if len(chats) == 1 else f"one of {len(chats)} servers"
            note = f" from {whom}, {attempt + 1} of {config.retries + 1} attempts"
            wait = failure.retry_after
            if wait is None:
                wait = min(config.backoff_s * 2**attempt, config.backoff_max_s) * random.uniform(0.5, 1)
            if attempt == config.retries or not failure.passing or wait > config.backoff_max_s:
                break
            await asyncio.sleep(wait)
        # `from None`: the cause holds the request, and the request holds the key.
        raise ToolUnavailable(self.tool, failure.what + note, mend=failure.mend) from None

    async def _attempt(
        self, address: str, chat: "ChatOpenAI", messages: Sequence[BaseMessage], extra: Mapping[str, Any]
    ) -> Reply:
        """One question to one server."""
        body: dict[str, Any] = {"extra_body": dict(extra)} if extra else {}
        try:
            async with asyncio.timeout(self.config.timeout_s):
                reply = _reply(await chat.ainvoke(list(messages), **body))
        except asyncio.CancelledError:
            self._servers.given_up(address)
            raise
        self._servers.report_answer(address)
        record_usage(reply.prompt_tokens, reply.completion_tokens)
        return reply


class _Failure(Frozen):
    """A failed attempt. `passing` means that a retry may succeed."""

    what: str
    mend: str = "start the server or turn the tool off"
    passing: bool = True
    retry_after: float | None = None

    @classmethod
    def of(cls, error: Exception, key: str) -> "_Failure":
        """Describe an exception of asyncio, the SDK or LangChain, without the key, which a server may echo."""
        import openai

        if isinstance(error, TimeoutError | openai.APITimeoutError):
            return cls(what="no answer in time")
        if isinstance(error, openai.APIStatusError):
            status, words = error.status_code, without_secret(_server_words(error.body), key)[:200]
            if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
                return cls(what=f"status {status}", mend=f"check {KEY_VARIABLE}", passing=False)
            what = f"status {status}" + (f" ({words})" if words else "")
            if error.code == "insufficient_quota":
                return cls(what=what, mend="the account has no credit left", passing=False)
            if status in (408, 409, 429) or status >= 500:
                return cls(what=what, retry_after=_retry_after(error.response.headers))
            return cls(what=what, mend="check `model` and `base_url`", passing=False)
        if isinstance(error, openai.APIConnectionError):
            return cls(what="no connection, or a broken one")
        return cls(what=f"not an OpenAI-compatible answer ({type(error).__name__})")


def no_answer(error: Exception, address: str) -> NamepinError:
    """The failure of a conversation's model as a coded error, without the key that its server may echo."""
    failure = _Failure.of(error, os.environ.get(KEY_VARIABLE) or _NO_KEY)
    what = f"the model that leads the conversation: {failure.what}"
    host = urlsplit(address).netloc
    return NamepinError("E312", what, where=host, mend=failure.mend, exit_code=Exit.UNREACHABLE)


def without_key(value: Value) -> Value:
    """What was read from a reply, without the key, which a server may reveal. A placeholder is not a secret.

    A reply is parsed as it is: a key in it may be part of its form, or spelled with escapes.
    """
    return without_secret(value, os.environ.get(KEY_VARIABLE) or _NO_KEY)


def _server_words(body: object) -> str:
    message = body.get("message", "") if isinstance(body, Mapping) else ""
    return " ".join(message.split()) if isinstance(message, str) else ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The header's seconds. For its other form, a date, the back-off decides."""
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if seconds >= 0 else None


def _reply(message: BaseMessage) -> Reply:
    """The answer as text. Without content, it is the answer in a single tool call or at the end of thoughts.

    Raises:
        TypeError: when the message is not a text answer.
    """
    if not isinstance(message.content, str):
        raise TypeError("the answer is not text")
    text, lack = message.content, ""
    cut = message.response_metadata.get("finish_reason") == "length"
    if not text.strip():
        text, lack = _elsewhere(message, cut)
    usage = getattr(message, "usage_metadata", None) or {}
    return Reply(
        text=text,
        cut=cut,
        lack=lack,
        tokens=_tokens(message.response_metadata.get("logprobs")) if not lack else (),
        prompt_tokens=usage.get("input_tokens"),
        completion_tokens=usage.get("output_tokens"),
    )


def _elsewhere(message: BaseMessage, cut: bool) -> tuple[str, str]:
    """The answer of a message without content from its other fields, and the reason where there is none."""
    calls = [json.dumps(call["args"]) for call in getattr(message, "tool_calls", ())]
    calls += [str(call["args"]) for call in getattr(message, "invalid_tool_calls", ())]
    if len(calls) == 1:
        return calls[0], ""
    if calls:
        return "", f"it holds {len(calls)} tool calls and no text"
    thoughts = message.additional_kwargs.get(THOUGHTS)
    if not thoughts:
        return "", "it is empty"
    if cut:
        return "", "it was cut off while it thought: raise max_tokens, or turn thinking off"
    found = last_object(thoughts)
    return found, "" if found else "it holds thoughts only, and no answer"


def _tokens(logprobs: Any) -> tuple[AnswerToken, ...]:
    """The answer's tokens from a server's `logprobs`, which may be incomplete."""
    content = (logprobs or {}).get("content") or ()
    rows = ((token, [token, *(token.get("top_logprobs") or ())]) for token in content)
    return tuple(
        AnswerToken(token=token["token"], likely={t["token"]: t["logprob"] for t in row}) for token, row in rows
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
