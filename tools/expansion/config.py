"""Settings of the expansion's backends."""

from typing import Annotated

from pydantic import Field

from namepin.tools.llm.config import CachedChatConfig
from namepin.tools.types import Frozen


class ExpansionConfig(CachedChatConfig):
    """The chat model, the bounds on what goes in (characters), and the cache. Off without `model`."""

    max_tokens: Annotated[int, Field(gt=0)] = 80
    max_post: Annotated[int, Field(ge=100)] = 4000
    """Largest number of characters of the post, and of the background, in the prompt."""


class RecordedExpansionConfig(Frozen):
    """The file of the expansions."""

    file: str = "expansions.jsonl"
    """JSONL of `{"post": the post's text, "text": the name, "expansion"}`; other keys are ignored."""
