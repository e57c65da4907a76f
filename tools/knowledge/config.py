"""Settings of the knowledge tool's backends."""

from typing import Annotated

from pydantic import Field

from namepin.tools.llm.config import CachedChatConfig


class KnowledgeConfig(CachedChatConfig):
    """The chat model, the bounds on what goes in and out (characters), and the cache. Off without `model`."""

    max_post: Annotated[int, Field(ge=100)] = 8000
    max_answer: Annotated[int, Field(ge=100)] = 2000


class PlimKnowledgeConfig(KnowledgeConfig):
    """The settings of `KnowledgeConfig`; the role `examples` sets the number of samples."""


class StarterKnowledgeConfig(KnowledgeConfig):
    """The settings of `KnowledgeConfig`."""
