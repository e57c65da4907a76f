"""Settings of the grounder's backends."""

from typing import Annotated, Literal

from pydantic import Field

from namepin.tools.llm.config import BoxChatConfig
from namepin.tools.models.config import BlipConfig, LookConfig, OfaConfig, Sam3Config
from namepin.tools.types import Frozen, Positive

Phrase = Literal["expression", "expansion", "entity"]
Part = Literal["expansion", "entity", "category", "expression"]
PATCH = 32
"""Pixels per side of the squashed picture that become one position of the encoder's input."""


class OfaGrounderConfig(Frozen):
    """The OFA, the size of its pictures, and the number of boxes."""

    ofa: OfaConfig = OfaConfig(weights="refcoco_large_best.pt")
    """Tuned on RefCOCO by its authors; for RiVEG's own data tune `OFA-Sys/ofa-large` (docs/riveg.md)."""

    image_size: Annotated[int, Field(ge=16)] = 512
    """Side of the square that pictures are squashed to, in pixels."""

    beams: Annotated[int, Field(ge=1, le=50)] = 5


class SeqtrGrounderConfig(Frozen):
    """The SeqTR, and how it runs."""

    weights: str = "det_best.pth"
    """A `.pth` file of the authors' code, or a folder with `model.safetensors`; none is on the hub."""

    revision: str | None = None

    vocabulary: str | None = None
    """The JSON file of its vocabulary; None for `token_to_ix.json` beside the weights."""

    average: bool = True
    """Use the moving average of the weights if the file has one."""

    task: Literal["auto", "box", "mask"] = "auto"
    """The answer: everything that the weights support, only a box, or box and mask, where the weights support masks."""

    max_words: Positive = 30
    """Number of words of an expression. The default is RiVEG's; the authors' RefCOCO weights have 15, Flickr30k's 20,
    the pre-trained ones 40. Shorter expressions are padded, and the GRU reads the padding, so give the number that the
    weights were trained with."""

    image_size: Annotated[int, Field(ge=32, le=2048)] = 640
    """The longer side, in pixels; one cell of the net's grid (`STRIDE` of `namepin.tools.nets.seqtr`) at least."""

    device: str = "cpu"
    text_batch: Positive = 8
    cached_pictures: Annotated[int, Field(ge=0)] = 16


class Sam3GrounderConfig(Frozen):
    """The net, its prompt, and which instances count."""

    sam: Sam3Config = Sam3Config()
    ask: Part = "expansion"
    """`expansion`: the entity's expansion, else its category. `entity`: its name. `category`: its type in plain words.
    `expression`: the whole expression, as UNINEXT gets it."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """The lowest score of an instance; SAM 3's own default."""

    most: Annotated[int, Field(ge=1, le=200)] = 5
    """Largest number of boxes per mention."""


class MmGroundingDinoConfig(Frozen):
    """The MM-Grounding-DINO, its prompt, and which of its boxes count."""

    weights: str = "openmmlab-community/mm_grounding_dino_large_all"
    """A transformers folder or a name on the hub."""

    revision: str | None = None
    """The commit on the hub."""

    adapter: str | None = None
    """A folder with a LoRA adapter for the task `ground` (`namepin.tools.loading.adapters`); None runs the
    weights without one."""

    device: str = "cpu"

    phrase: Phrase = "expansion"
    """The part of `NAME (TYPE) – EXPANSION` that is the prompt. The default is the expansion, since a detector knows
    kinds of things and few names. A query without an expansion is used as a whole."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.25
    """The lowest score of a box."""

    top: Annotated[int, Field(ge=1, le=900)] = 5
    """Largest number of boxes per query."""

    short_side: Annotated[int, Field(ge=32)] = 800
    """Pixels of the shorter side of the net's input."""

    long_side: Annotated[int, Field(ge=32)] = 1333
    """Largest number of pixels of the longer side; a narrow picture gets a shorter side below `short_side`."""

    text_batch: Annotated[int, Field(ge=1)] = 4
    """Queries per batch."""


class DetectorConfig(Frozen):
    """The object detector, and how many of its boxes are used."""

    weights: str = "PekingU/rtdetr_r50vd"
    """Any object detector of transformers: a folder or a name on the hub."""

    revision: str | None = None
    """The commit on the hub."""

    device: str = "cpu"
    top: Annotated[int, Field(ge=1, le=300)] = 20
    """The number of boxes; RiVEG's Table II looks at 10, 15 and 20."""

    cached_pictures: Annotated[int, Field(ge=0)] = 64


class DetectorGrounderConfig(Frozen):
    """The detector, or a file of its boxes, and the BLIP that scores each box against the mention."""

    detector: DetectorConfig = DetectorConfig()
    regions: str = ""
    """A file of boxes, as `namepin data regions` writes it, in place of the detector."""

    blip: BlipConfig = BlipConfig()
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A mention whose best box scores less is not in the picture."""


class Florence2Config(Frozen):
    """The Florence-2, and its prompt."""

    weights: str = "florence-community/Florence-2-large-ft"
    """A transformers folder or a name on the hub. The `ft` ones were tuned on referring expressions, too."""

    revision: str | None = None
    """The commit on the hub."""

    device: str = "cpu"

    phrase: Phrase = "expansion"
    """The part of `NAME (TYPE) – EXPANSION` that is the prompt; a query without an expansion is used as a whole."""

    image_size: Annotated[int, Field(ge=PATCH, multiple_of=PATCH)] = 768
    """Side of the square that pictures are squashed to, in pixels."""

    beams: Annotated[int, Field(ge=2, le=50)] = 3
    """Beams of the search for one answer, which may hold several boxes."""

    top: Annotated[int, Field(ge=1, le=20)] = 5
    """Largest number of boxes per query."""

    text_batch: Annotated[int, Field(ge=1)] = 4
    """Queries per batch."""


class ChatGrounderConfig(BoxChatConfig):
    """The chat model, its coordinates, and its input. Off without `model`."""

    max_tokens: Annotated[int, Field(gt=0)] = 256
    top: Annotated[int, Field(ge=1, le=50)] = 5
    """Largest number of boxes per answer."""
    logprobs: bool = False
    """Ask for log-probabilities, and score by them."""


class ChatPostGrounderConfig(LookConfig):
    """The settings of `LookConfig`. With those of the entailment of this backend, a post costs one question."""
