"""LangChain's client for OpenAI-compatible servers, with a token bound for every server, and with models' thoughts."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import openai
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from pydantic import PrivateAttr

from namepin.tools.llm.config import THOUGHTS

_NEW, _OLD = "max_completion_tokens", "max_tokens"
_REFUSALS = (openai.BadRequestError, openai.UnprocessableEntityError)


def takes_both_bounds(base_url: str | None) -> bool:
    """Whether a server may be sent both names of the bound: any server but OpenAI's own, which is the default."""
    return base_url is not None and not (urlsplit(base_url).hostname or "").endswith("openai.com")


class BoundedChat(ChatOpenAI):
    """Sends the token bound under both of its names, since servers ignore unknown names.

    OpenAI refuses both together, and so may a gateway in front of it. A refused name is then no longer sent.

    Attributes:
        both_bounds: whether to send both names.
    """

    both_bounds: bool = True
    _refused: str = PrivateAttr(default="")

    def _get_request_payload(self, input_: Any, *, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        payload: dict[str, Any] = super()._get_request_payload(input_, stop=stop, **kwargs)
        if self.both_bounds and _NEW in payload:
            payload[_OLD] = payload[_NEW]
            payload.pop(self._refused, None)
        return payload

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        try:
            return await super()._agenerate(*args, **kwargs)
        except _REFUSALS as error:
            if not self._learns_from(error):
                raise
        return await super()._agenerate(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        begun = False
        try:
            async for chunk in super()._astream(*args, **kwargs):
                begun = True
                yield chunk
            return
        except _REFUSALS as error:
            if begun or not self._learns_from(error):
                raise
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk

    def _learns_from(self, error: openai.APIStatusError) -> bool:
        """Whether the server has just refused a bound by its name, so that the request is worth asking without it."""
        body = str(error.body)
        refused = next((name for name in (_NEW, _OLD) if name in body), "")
        if not self.both_bounds or self._refused or not refused:
            return False
        # A server that accepts only one mentions both, and wants the new one.
        self._refused = _OLD if _NEW in body and _OLD in body else refused
        return True

    def _create_chat_result(
        self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None
    ) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        table = response if isinstance(response, dict) else response.model_dump()
        for generation, choice in zip(result.generations, table.get("choices") or (), strict=False):
            message = choice.get("message") or {}
            thoughts = message.get("reasoning_content") or message.get("reasoning")
            if isinstance(thoughts, str):
                generation.message.additional_kwargs[THOUGHTS] = thoughts
        return result
