"""The graphs of `langgraph.json`. Each is built at its first use, in a thread, since that reads files and weights."""

import asyncio
from functools import lru_cache
from typing import Any

from namepin.agent.studio.runtime import studio_runtime


@lru_cache(maxsize=7)
def _built(name: str) -> Any:
    from namepin.agent.studio import conversation
    from namepin.agent.studio import post_graphs as served

    studio_runtime()
    if name == "chat":
        return conversation.build()
    contexts = {
        "gem": served.GemContext,
        "gem-review": served.GemReviewContext,
        "riveg": served.RivegContext,
        "riveg-review": served.RivegReviewContext,
        "mllm": served.MllmContext,
        "mllm-review": served.MllmReviewContext,
    }
    return served.build(contexts[name])


async def gem() -> Any:
    """GEM's graph: `{"post": {"text": ..., "image": base64}}` to `{"extraction": ...}`."""
    return await asyncio.to_thread(_built, "gem")


async def riveg() -> Any:
    """RiVEG's graph, with the same input and output."""
    return await asyncio.to_thread(_built, "riveg")


async def mllm() -> Any:
    """The graph with one model, with the same input and output."""
    return await asyncio.to_thread(_built, "mllm")


async def gem_review() -> Any:
    """GEM's graph; close decisions interrupt it until a person has decided."""
    return await asyncio.to_thread(_built, "gem-review")


async def riveg_review() -> Any:
    """RiVEG's graph, with the same interrupts."""
    return await asyncio.to_thread(_built, "riveg-review")


async def mllm_review() -> Any:
    """The graph with one model, with the same interrupts."""
    return await asyncio.to_thread(_built, "mllm-review")


async def chat() -> Any:
    """The conversation: messages, with the post's picture in one of them."""
    return await asyncio.to_thread(_built, "chat")
