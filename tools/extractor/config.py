"""Settings of the extractor's backends."""

from typing import Annotated, Literal

from pydantic import Field

from namepin.tools.extractor.answer import Scheme
from namepin.tools.llm.config import BoxChatConfig

ListGuide = Literal["json_schema", "structured_outputs", "guided_json", "none"]
"""The way to limit the server to lists of the right form: `json_schema` is OpenAI's `response_format`, with the list in
an object; `structured_outputs` is vLLM's, `guided_json` is vLLM's up to 0.11. `none` is for servers without any."""


class ChatExtractorConfig(BoxChatConfig):
    """The chat model, its types, and how its answer is limited. Off without `model`."""

    max_tokens: Annotated[int, Field(gt=0)] = 2048
    scheme: Scheme = "gmner4"
    """The types: 4 (GMNER), 8 or 51 (FMNERG)."""
    guide: ListGuide = "json_schema"
    """How the server is limited to lists of the right form."""
    logprobs: bool = False
    """Ask for log-probabilities, and score types and places by them. The scores are not calibrated."""
    max_entities: Annotated[int, Field(ge=1, le=500)] = 100
    """Largest number of items of an answer that are read."""
