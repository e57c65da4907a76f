"""Settings of the extractor's backends."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from namepin.tools.extractor.answer import Scheme
from namepin.tools.llm.box_frames import Frame
from namepin.tools.llm.config import BoxChatConfig
from namepin.tools.loading.config import Placement
from namepin.tools.types import Frozen

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
    shots: Path | None = None
    """A file of annotated posts to show before the question (`python -m namepin.evals.shots`); None for none."""


class LocalExtractorConfig(Placement):
    """A Qwen2.5-VL or Qwen3-VL, its adapter, and its input. The bounds of a picture should be those of its training."""

    weights: str = "Qwen/Qwen2.5-VL-7B-Instruct"
    """A transformers folder or a name on the hub."""
    revision: str | None = None
    adapter: str | None = None
    """A folder of `namepin finetune extractor`; None for the weights as they are."""
    scheme: Scheme = "gmner4"
    frame: Frame | None = None
    """The unit of the model's boxes; None by its kind, pixels for Qwen2.5-VL, thousandths for Qwen3-VL."""
    min_pixels: Annotated[int, Field(ge=784)] = 65_536
    max_pixels: Annotated[int, Field(ge=784, le=12_000_000)] = 1_000_000
    max_tokens: Annotated[int, Field(gt=0)] = 2048
    max_post: Annotated[int, Field(ge=100)] = 2000
    """Largest number of characters of the post in the prompt; the rest is cut."""
    max_entities: Annotated[int, Field(ge=1, le=500)] = 100
    shots: Path | None = None
    """A file of annotated posts to show before the question (`python -m namepin.evals.shots`); None for none."""


class RecordedExtractorConfig(Frozen):
    """Recorded answers."""

    file: str = "answers.jsonl"
    """A JSONL file of rows `{"text", "answer"}`."""
    scheme: Scheme = "gmner4"
