"""Settings of the captioner's and the describer's backends."""

from typing import Annotated

from pydantic import Field

from namepin.tools.llm.config import CachedChatConfig
from namepin.tools.loading.config import Placement
from namepin.tools.types import Frozen


class CaptionerConfig(CachedChatConfig):
    """The chat model, the size at which it gets the picture, and the cache. Off without `model`."""

    max_tokens: Annotated[int, Field(gt=0)] = 120
    max_side: Annotated[int, Field(ge=64, le=4096)] = 1024
    """Pixels of the longer side; larger pictures are scaled down before they are sent."""


class DescriberConfig(CaptionerConfig):
    """The settings of a captioner, with room for a paragraph."""

    max_tokens: Annotated[int, Field(gt=0)] = 400


class Blip2CaptionerConfig(Placement):
    """The BLIP-2, and how it decodes: beam search as in LAVIS, with 5 beams and at most 30 tokens."""

    weights: str = "Salesforce/blip2-opt-2.7b"
    """A transformers folder, or a name on the hub."""

    revision: str | None = None
    prompt: str = ""
    """The beginning of the caption, which the model continues; "a photo of" for BLIP-2s tuned on COCO."""

    max_tokens: Annotated[int, Field(gt=0)] = 30
    beams: Annotated[int, Field(gt=0)] = 5
    batch: Annotated[int, Field(gt=0)] = 4
    """Pictures per batch."""


class RecordedCaptionerConfig(Frozen):
    """The file of the captions."""

    file: str = "captions.jsonl"
    """JSONL. A row is `{"image": sha256 of the file, "caption"}`, or `{"id", "caption"}` with `images` set."""

    images: str | None = None
    """The folder with `ID.jpg`, for rows that name posts."""
