"""The chat's own settings: which model leads the conversation, and how much it may do."""

from typing import Annotated

from pydantic import Field

from tools.llm import ChatConfig


class ChatSettings(ChatConfig):
    """`[chat]` of a profile: `--set chat.model=... --set chat.base_url=...`. Without a model, rules lead."""

    max_tokens: Annotated[int, Field(gt=0)] = 1024
    model_calls: Annotated[int, Field(ge=1, le=50)] = 8
    """Model calls a message may cost."""
    tool_calls: Annotated[int, Field(ge=1, le=50)] = 6
    """Tool calls a message may cost."""
