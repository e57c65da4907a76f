"""Settings of the knowledge tool's backends."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from namepin.tools.llm.config import ChatConfig


class KnowledgeConfig(ChatConfig):
    """The chat model, the bounds on what goes in and out (characters), and the cache. Off without `model`."""

    max_post: Annotated[int, Field(ge=100)] = 8000
    max_answer: Annotated[int, Field(ge=100)] = 2000
    cache: bool = True
    cache_dir: Path | None = None
    """None: NAMEPIN_CACHE_DIR, or the user's cache folder."""
    cache_mb: Annotated[int, Field(ge=1)] = 64


class PlimKnowledgeConfig(KnowledgeConfig):
    """The settings of `KnowledgeConfig`; how many samples are shown is up to the role `examples`."""
