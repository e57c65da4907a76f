"""Settings of the reranker's backends."""

from typing import Annotated, Literal

from pydantic import Field

from namepin.tools.llm.config import CachedChatConfig
from namepin.tools.llm.constrained import Guide
from namepin.tools.loading.config import Placement


class LocalRerankerConfig(Placement):
    """The model, how it is loaded, and how it is prompted."""

    weights: str
    """A transformers folder, or a name on the hub."""

    revision: str | None = None
    adapter: str | None = None
    """A folder with a LoRA adapter for the task `rerank` (`tools.loading.adapters`); None runs the base without one."""

    decoder: Literal["score", "generate"] = "score"
    """`score` compares the likelihoods of all candidates; `generate` decodes greedily among them."""

    length_normalised: bool = False
    """`score`: divide an answer's log-likelihood by its number of tokens."""

    hint: bool = False
    """Show the tagger's scores in the prompt (section 5.1's `-h`)."""

    max_query_tokens: Annotated[int, Field(ge=32)] = 1024
    """Largest number of tokens of Table 7's query; a longer post is cut around the mention."""

    batch: Annotated[int, Field(gt=0)] = 8
    """Candidates per batch."""


class LlavaRerankerConfig(LocalRerankerConfig):
    """LLaVA-1.5-7B by default."""

    weights: str = "llava-hf/llava-1.5-7b-hf"
    cached_pictures: int = 4


class TextRerankerConfig(LocalRerankerConfig):
    """LLaMA-3-8B by default, as in the paper."""

    weights: str = "meta-llama/Meta-Llama-3-8B-Instruct"


class Blip2RerankerConfig(LocalRerankerConfig):
    """BLIP-2 with OPT-2.7B by default."""

    weights: str = "Salesforce/blip2-opt-2.7b"
    cached_pictures: int = 4


class ChatRerankerConfig(CachedChatConfig):
    """The chat model, how its answers are limited to the candidates, and what is in the prompt. Off without `model`."""

    max_tokens: Annotated[int, Field(gt=0)] = 32
    guide: Guide = "json_schema"
    """How the server is limited to the candidates."""
    hint: bool = False
    """Show the tagger's scores in the prompt (section 5.1's `-h`)."""
    examples: bool = True
    """Show the three examples of Table 7 before the question."""
    sees_images: bool = True
    """Send the picture; else the prompt has its caption instead."""
    max_side: Annotated[int, Field(ge=64, le=4096)] = 1024
    """Pixels of the picture's longer side."""
    max_query: Annotated[int, Field(ge=200)] = 8000
    """Largest number of characters of Table 7's query; a longer post is cut around the mention."""
