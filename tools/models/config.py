"""Settings of models that several roles share, and of their heat maps."""

from typing import Annotated, Literal

from pydantic import Field

from namepin.tools.llm.config import BoxChatConfig
from namepin.tools.types import Frozen, Positive

Target = Literal["logit", "probability"]
"""The score that is differentiated: the raw match logit (LAVIS), or P_T (equation 11 as printed)."""
Heads = Literal["mean", "max"]
Tokens = Literal["inner_mean", "sum"]
"""How tokens are combined: the mean over all but the first and [SEP] (LAVIS, PNP-VQA), or the sum over all (eq. 11)."""


class BlipConfig(Frozen):
    """The BLIP to use, and how it runs."""

    weights: str = "Salesforce/blip-itm-large-coco"
    """A transformers folder, an original `.pth` file, or a name on the hub."""

    revision: str | None = None
    """The commit on the hub."""

    tokenizer: str = "google-bert/bert-base-uncased"
    """The tokenizer for an original file, which has none."""

    first_token: Literal["enc", "cls"] = "enc"
    """The text's first token: [ENC] as in LAVIS and in training, or [CLS] as in Salesforce's BLIP repository."""

    max_text_tokens: Annotated[int, Field(ge=8)] = 35
    """Largest number of tokens, special ones included; BLIP's own bound. A longer mention is cut, not its category."""

    vision_norm_eps: Annotated[float, Field(gt=0)] | None = 1e-6
    """Epsilon of the image encoder's layer norms, as BLIP was trained. None keeps the value of a folder's
    `config.json`, which is 1e-5 in the published conversions."""

    device: str = "cpu"
    text_batch: Positive = 32
    image_batch: Positive = 8
    cached_pictures: Annotated[int, Field(ge=0)] = 16


class OfaConfig(Frozen):
    """The OFA to use, and how it runs."""

    weights: str = "OFA-Sys/ofa-large"
    """A folder or hub name of OFA-Sys's transformers branch, or a `.pt` file of fairseq's."""

    revision: str | None = None
    """The commit on the hub."""

    tokenizer: str = "OFA-Sys/ofa-large"
    """A folder or hub name, for a `.pt` without a vocabulary beside it. All OFAs share BART's vocabulary."""

    device: str = "cpu"
    image_batch: Positive = 4
    text_batch: Positive = 8
    cached_pictures: Annotated[int, Field(ge=0)] = 16


class SamConfig(Frozen):
    """The SAM to use, and where it runs."""

    weights: str = "facebook/sam-vit-huge"
    """A transformers folder, an original `.pth` file, or a name on the hub (Apache-2.0)."""

    revision: str | None = None
    """The commit on the hub."""

    device: str = "cpu"
    cached_pictures: Annotated[int, Field(ge=0)] = 4
    prompt_batch: Annotated[int, Field(gt=0)] = 16


class Sam2Config(SamConfig):
    """The SAM 2 to use, and where it runs."""

    weights: str = "facebook/sam2.1-hiera-large"
    """A transformers folder or a name on the hub."""


class Owlv2Config(Frozen):
    """The OWLv2 to use, and how it runs."""

    weights: str = "google/owlv2-base-patch16-ensemble"
    """A transformers folder or a name on the hub (Apache-2.0)."""

    revision: str | None = None
    """The commit on the hub."""

    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16"] = "float32"
    """bfloat16 takes half the time on processors with matrix units for it (AMX). `auto` takes it there, and float32 on
    others; the fingerprint holds which."""

    image_size: Annotated[int, Field(ge=32, le=2048)] = 960
    """Side of the square input in pixels; the published nets were trained at 960, and other sizes interpolate their
    positions."""

    cached_pictures: Annotated[int, Field(ge=0)] = 4


class Sam3Config(Frozen):
    """The SAM 3 to use, and where it runs."""

    weights: str = "facebook/sam3"
    """A transformers folder or a name on the hub; SAM License."""

    revision: str | None = None
    device: str = "cpu"


SEEM_STEP = 32
"""Both sides of the net's input are multiples of it."""


class SeemConfig(Frozen):
    """The SEEM to use, and where it runs."""

    weights: str = "seem_focall_v0.pt"
    """A published file (Apache-2.0): `namepin pull seem_focall_v0.pt`."""

    revision: str | None = None
    """Commit for names on the hub; a file has none."""

    tokenizer: str = "openai/clip-vit-base-patch32"
    """CLIP's vocabulary: a folder or hub name."""

    sees: Literal["both", "words"] = "both"
    """What SEEM is told of a mention: its place and its category as words, or the category alone."""

    short_side: Annotated[int, Field(ge=SEEM_STEP)] = 512
    long_side: Annotated[int, Field(ge=SEEM_STEP)] = 1024
    device: str = "cpu"
    cached_pictures: Annotated[int, Field(ge=0)] = 2
    prompt_batch: Annotated[int, Field(gt=0)] = 8


class LookConfig(BoxChatConfig):
    """The vision model that looks for all names of a post in one question. Off without `model`."""

    max_tokens: Annotated[int, Field(gt=0)] = 1500
    guide: Literal["json_schema", "none"] = "json_schema"
    """Limit the answer's form by OpenAI's `response_format`; `none` is for servers that refuse it."""
    per_question: Annotated[int, Field(ge=1, le=50)] = 20
    """Largest number of phrases in one question. 1 asks about each phrase alone, `concurrency` at a time."""
