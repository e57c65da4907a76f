"""Settings of the grounder's backends."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from namepin.tools.grounder.qwen_boxes import Frame, frame_of
from namepin.tools.llm.config import CachedChatConfig
from namepin.tools.models.config import OfaConfig, Sam3Config
from namepin.tools.types import Frozen, Positive

Phrase = Literal["expression", "expansion", "entity"]
Part = Literal["expansion", "entity", "category", "expression"]
PATCH = 32
"""Pixels of the squashed picture's side that become one place of what the encoder reads."""


class OfaGrounderConfig(Frozen):
    """Which OFA, the size of its pictures, and how many boxes to look for."""

    ofa: OfaConfig = OfaConfig(weights="refcoco_large_best.pt")
    """Tuned on RefCOCO by its authors; for RiVEG's own data tune `OFA-Sys/ofa-large` (docs/riveg.md)."""

    image_size: Annotated[int, Field(ge=16)] = 512
    """Side of the square that pictures are squashed to, in pixels."""

    beams: Annotated[int, Field(ge=1, le=50)] = 5


class SeqtrGrounderConfig(Frozen):
    """Which SeqTR, and how it is run."""

    weights: str = "det_best.pth"
    """A `.pth` file of the authors' code, or a folder with `model.safetensors`; none is on the hub."""

    revision: str | None = None

    vocabulary: str | None = None
    """The JSON file of its words; None for `token_to_ix.json` beside the weights."""

    average: bool = True
    """Take the moving average of the weights where the file holds one."""

    task: Literal["auto", "box", "mask"] = "auto"
    """What is answered: all that the weights can write, a box alone, or also the mask, which they must be able to."""

    max_words: Positive = 30
    """Of an expression, RiVEG's; the authors' RefCOCO weights have 15, Flickr30k's 20, the pre-trained ones 40. Shorter
    expressions are filled up to it, and the GRU reads that too: give the number that the weights were trained with."""

    image_size: Annotated[int, Field(ge=32, le=2048)] = 640
    """The longer side, in pixels; one cell of the net's grid (`STRIDE` of `namepin.tools.nets.seqtr`) at least."""

    device: str = "cpu"
    text_batch: Positive = 8
    cached_pictures: Annotated[int, Field(ge=0)] = 16


class Sam3GrounderConfig(Frozen):
    """The net, what it is asked, and which instances are boxes."""

    sam: Sam3Config = Sam3Config()
    ask: Part = "expansion"
    """`expansion`: what is said of the entity, and its category where nothing is. `entity`: its name. `category`: its
    type in plain words. `expression`: all of it, as UNINEXT gets it."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.3
    """SAM 3's own, for instances."""

    most: Annotated[int, Field(ge=1, le=200)] = 5
    """Boxes a mention."""


class MmGroundingDinoConfig(Frozen):
    """Which MM-Grounding-DINO, what it is asked, and which of its boxes count."""

    weights: str = "openmmlab-community/mm_grounding_dino_large_all"
    """A transformers folder or a name on the hub."""

    revision: str | None = None
    """The commit on the hub."""

    adapter: str | None = None
    """A folder with a LoRA adapter for the task `ground` (`namepin.tools.loading.adapters`); None runs the weights as
    they are."""

    device: str = "cpu"

    phrase: Phrase = "expansion"
    """The part of `NAME (TYPE) – EXPANSION` that is asked. A detector knows kinds of things and few names, so the
    expansion; a query without one is asked as a whole."""

    threshold: Annotated[float, Field(ge=0, le=1)] = 0.25
    """The lowest score of a box."""

    top: Annotated[int, Field(ge=1, le=900)] = 5
    """Boxes a query at most."""

    short_side: Annotated[int, Field(ge=32)] = 800
    """Pixels of the picture's shorter side, as the net sees it."""

    long_side: Annotated[int, Field(ge=32)] = 1333
    """Pixels of its longer side at most; a narrow picture gets a shorter side below `short_side`."""

    text_batch: Annotated[int, Field(ge=1)] = 4
    """Queries at a time."""


class Florence2Config(Frozen):
    """Which Florence-2, and what it is asked."""

    weights: str = "florence-community/Florence-2-large-ft"
    """A transformers folder or a name on the hub. The `ft` ones were tuned on referring expressions, too."""

    revision: str | None = None
    """The commit on the hub."""

    device: str = "cpu"

    phrase: Phrase = "expansion"
    """The part of `NAME (TYPE) – EXPANSION` that is asked; a query without an expansion is asked as a whole."""

    image_size: Annotated[int, Field(ge=PATCH, multiple_of=PATCH)] = 768
    """Side of the square that pictures are squashed to, in pixels."""

    beams: Annotated[int, Field(ge=2, le=50)] = 3
    """Of the search for one answer, which may hold several boxes."""

    top: Annotated[int, Field(ge=1, le=20)] = 5
    """Boxes a query at most."""

    text_batch: Annotated[int, Field(ge=1)] = 4
    """Queries at a time."""


class ChatGrounderConfig(CachedChatConfig):
    """The chat model, how it counts, and what it is shown. Off without `model`."""

    max_tokens: Annotated[int, Field(gt=0)] = 256
    frame: Frame | None = None
    """What the model's numbers count; None takes it from the model's name: Qwen2.5-VL pixels, Qwen3-VL thousandths."""
    factor: Annotated[int, Field(ge=1, le=256)] | None = None
    """The picture's sides are multiples of this; None is 28 for pixels (Qwen2.5-VL) and 32 for thousandths."""
    min_pixels: Annotated[int, Field(ge=1024)] = 65_536
    """A smaller picture is enlarged to this many pixels."""
    max_pixels: Annotated[int, Field(ge=65_536, le=12_000_000)] = 1_000_000
    """A larger one is made smaller; the server must take this much, else it would resize, and pixels be off."""
    top: Annotated[int, Field(ge=1, le=50)] = 5
    """Boxes of an answer that are kept."""
    logprobs: bool = False
    """Ask for log-probabilities, and score by them."""
    max_post: Annotated[int, Field(ge=100)] = 2000
    """Characters of the post; its rest is not shown."""
    max_expression: Annotated[int, Field(ge=100)] = 500
    """Characters of an expression; its rest is not shown."""

    @model_validator(mode="after")
    def _counts_are_known(self) -> Self:
        if self.model is not None and self.frame is None and frame_of(self.model) is None:
            raise ValueError(
                f"how {self.model!r} counts does not follow from its name: set `frame` to pixels (of the picture, as "
                "Qwen2.5-VL) or thousand (thousandths of its sides, as Qwen3-VL)"
            )
        return self

    @property
    def counts(self) -> Frame:
        """The frame, by setting or by name."""
        return self.frame or frame_of(self.model or "") or "thousand"

    @property
    def multiple(self) -> int:
        """Of what the shown picture's sides are multiples."""
        return self.factor or (28 if self.counts == "pixels" else 32)
