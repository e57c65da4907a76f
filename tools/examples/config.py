"""Settings of the annotated examples."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from namepin.tools.types import Frozen

Kind = Literal["umt", "sentence", "clip"]


class ExamplesConfig(Frozen):
    """The annotated samples, and how a post's samples are chosen."""

    samples: tuple[str, ...] = ("annotations.jsonl",)
    """JSONL files with rows `{"id", "annotation"}`, which may have `text` and `caption` too."""

    data: str | None = None
    """The data set that the samples are from: texts and captions of its train and dev posts are looked up by id."""

    captions: str = "blip2"
    """The captioner whose captions of the data set are used."""

    images: str | None = None
    """A folder with the samples' pictures, `ID.jpg`, for encoders that read pictures."""

    n: Annotated[int, Field(ge=1, le=50)] = 5
    """Number of samples per post (the paper's N)."""

    selection: Literal["similar", "fixed", "random"] = "similar"
    """`fixed` is the paper's `w/o MSEA`: N samples drawn once with `seed`, the same for all posts. `random` draws anew
    for each post."""

    seed: int = 1

    features: Kind = "sentence"
    """`umt` is the paper's; `sentence` reads only the text; `clip` reads both."""

    weights: str | None = None
    """Weights of the encoder, a folder or hub name. None: all-MiniLM-L6-v2, CLIP ViT-B/32; UMT's are not published."""

    revision: str | None = None
    device: str = "cpu"
    batch_size: Annotated[int, Field(ge=1)] = 32

    store: Path | None = None
    """The folder for the samples' features. None: one folder per fingerprint, in the cache folder."""

    @field_validator("samples", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("samples")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one file")
        return value
