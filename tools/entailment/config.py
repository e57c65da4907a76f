"""Settings of the entailment's backends."""

from typing import Annotated, Literal

from pydantic import Field

from namepin.tools.llm.config import CachedChatConfig
from namepin.tools.llm.constrained import Guide
from namepin.tools.models.config import BlipConfig, LookConfig, OfaConfig
from namepin.tools.types import Frozen, Positive


class OfaEntailmentConfig(Frozen):
    """The OFA, and the size of its pictures."""

    ofa: OfaConfig = OfaConfig(weights="snli_ve_large_best.pt")
    """Tuned on SNLI-VE by its authors; for RiVEG's own data tune `OFA-Sys/ofa-large` (docs/riveg.md)."""

    image_size: Annotated[int, Field(ge=16)] = 480
    """Side of the square that pictures are squashed to, in pixels."""


Spelling = Literal["albef", "lavis"]
"""How a sentence is prepared: as in `VE.py` of the authors' code, or as in LAVIS."""


class AlbefEntailmentConfig(Frozen):
    """The ALBEF, and how it runs."""

    weights: str = "albef_snli_ve_lavis.pt"
    """A `.pth` or `.pt` file, or a folder, tuned for visual entailment; LAVIS's for SNLI-VE is published."""

    spelling: Spelling | None = None
    """The spelling of the sentences in training. None chooses LAVIS's for weights without token-type embeddings, which
    only its port lacks, and the authors' for all others."""

    revision: str | None = None
    """The commit on the hub; a file has none."""

    tokenizer: str = "google-bert/bert-base-uncased"
    """The tokenizer, a folder or hub name, since the file has none."""

    image_size: Positive = 384
    """Side of the square picture in pixels; position embeddings of another size are resized to it."""

    max_words: Positive | None = None
    """Largest number of words of an expression. None is the spelling's own bound: 30, or 50 for LAVIS."""

    device: str = "cpu"
    image_batch: Positive = 8
    text_batch: Positive = 32


class BlipEntailmentConfig(Frozen):
    """The tool is its BLIP; a matcher or tracer of equal `blip` shares the loaded weights and the encoded pictures."""

    blip: BlipConfig = BlipConfig()


class ChatEntailmentConfig(CachedChatConfig):
    """The chat model, how its answers are limited to yes and no, and what is in the prompt. Off without `model`."""

    max_tokens: Annotated[int, Field(gt=0)] = 16
    guide: Guide = "json_schema"
    """How the server is limited to the two answers."""
    logprobs: bool = True
    """Ask for log-probabilities; set it to false for a server that refuses."""
    max_side: Annotated[int, Field(ge=64, le=4096)] = 1024
    """Pixels of the picture's longer side."""
    max_post: Annotated[int, Field(ge=100)] = 2000
    """Largest number of characters of the post in the prompt; the rest is cut."""
    max_expression: Annotated[int, Field(ge=100)] = 500
    """Largest number of characters of an expression in the prompt; the rest is cut."""


class ChatPostEntailmentConfig(LookConfig):
    """The settings of `LookConfig`."""
