"""The domain types: the input (`Post`), the findings (`Mention`, `Grounding`) and the result (`Extraction`).

All types are frozen and validated, and a round trip through JSON preserves them. Character offsets are Python string
indices into the post's text, end exclusive. Boxes are `(x1, y1, x2, y2)` in pixels of the upright image, x2 and y2
exclusive.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from namepin.tools.labels import COARSE4, FINE51, FINE_TO_COARSE4

Positive = Annotated[int, Field(gt=0)]


class Frozen(BaseModel):
    """Base of every domain type. Instances are immutable; unknown fields, NaN and Infinity are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _checked_box(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    if not all(map(math.isfinite, box)):
        raise ValueError(f"box {box} has a coordinate that is not finite")
    if not (box[0] < box[2] and box[1] < box[3]):
        raise ValueError(f"box {box} is empty or inverted: need x1 < x2 and y1 < y2")
    return box


Box = Annotated[tuple[float, float, float, float], AfterValidator(_checked_box)]
"""`(x1, y1, x2, y2)`, pixels of the upright image, x2/y2 exclusive."""

Point = tuple[int, int]
"""`(x, y)`, pixels of the upright image."""


class ImageRef(Frozen):
    """A reference to a picture: sha256 of the file's bytes, and the upright size in pixels."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]


MAX_MASK_PIXELS = 2**28
"""A larger mask is refused, since a few characters of run lengths could fill the memory when decoded."""


class Mask(Frozen):
    """A pixel mask as COCO's compressed run-length encoding; `size` is (height, width).

    A list of run lengths is accepted, too, and compressed. The runs must cover exactly height x width pixels, because
    the decoder writes them without a check.
    """

    size: tuple[Annotated[int, Field(gt=0, le=100_000)], Annotated[int, Field(gt=0, le=100_000)]]
    counts: str

    @field_validator("counts", mode="before")
    @classmethod
    def _compress(cls, counts: Any) -> Any:
        return _run_string(counts) if isinstance(counts, list | tuple) else counts

    @model_validator(mode="after")
    def _runs_cover_the_picture(self) -> Self:
        if self.size[0] * self.size[1] > MAX_MASK_PIXELS:
            raise ValueError(f"a mask of {self.size[0]} x {self.size[1]} pixels is too large")
        runs = _run_lengths(self.counts)
        if min(runs, default=-1) < 0 or sum(runs) != self.size[0] * self.size[1]:
            raise ValueError(f"the mask's runs do not cover {self.size[0]} x {self.size[1]} pixels")
        return self

    @classmethod
    def from_array(cls, array: "np.ndarray[Any, Any]") -> Self:
        """Encode a boolean array of shape (height, width)."""
        from pycocotools import mask as coco

        rle = coco.encode(np.asfortranarray(array.astype(np.uint8)))
        return cls(size=(array.shape[0], array.shape[1]), counts=rle["counts"].decode("ascii"))

    def __repr__(self) -> str:
        return f"<Mask {self.size[1]}x{self.size[0]}>"

    __str__ = __repr__

    def to_array(self) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        """Decode to a boolean array of shape (height, width)."""
        from pycocotools import mask as coco

        decoded = coco.decode({"size": list(self.size), "counts": self.counts.encode("ascii")})
        return np.asarray(decoded, dtype=bool)

    def tight_box(self) -> tuple[float, float, float, float] | None:
        """The smallest box around the mask's pixels, or None when the mask is empty."""
        array = self.to_array()
        ys, xs = np.flatnonzero(array.any(axis=1)), np.flatnonzero(array.any(axis=0))
        if not len(ys):
            return None
        return float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)


def _run_lengths(counts: str) -> list[int]:
    """COCO's string of run lengths as numbers.

    A character holds 5 bits and a continuation bit, low bits first, with offset 48. From the fourth run on, each value
    is the difference to the run two before it.
    """
    runs: list[int] = []
    value = shift = 0
    for char in counts:
        bits = ord(char) - 48
        if not 0 <= bits < 64 or shift > 30:
            raise ValueError("the mask's run lengths are not COCO's encoding")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the mask's run lengths break off")
    return runs


def _run_string(runs: Sequence[Any]) -> str:
    """Numbers as COCO's string of run lengths; see `_run_lengths`."""
    if not all(isinstance(run, int | float) and 0 <= run <= MAX_MASK_PIXELS and run == int(run) for run in runs):
        raise ValueError("the mask's run lengths are not whole numbers from 0 on")
    chars = []
    for i, run in enumerate(runs):
        value = int(run) - (int(runs[i - 2]) if i > 2 else 0)
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            chars.append(chr(48 + (bits | 32 if more else bits)))
            if not more:
                break
    return "".join(chars)


def token_offsets(text: str, tokens: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """The place of each token in `text`, as (start, end) characters. Tokens must occur in order.

    Raises:
        ValueError: when a token does not occur after the one before it.
    """
    offsets, at = [], 0
    for i, token in enumerate(tokens):
        start = text.find(token, at) if token else -1
        if start < 0:
            raise ValueError(f"token {i} {token!r} does not follow in the text after character {at}")
        at = start + len(token)
        offsets.append((start, at))
    return tuple(offsets)


class Post(Frozen):
    """An input post: its text, its tokens where the data set has them, and a path to its picture.

    With `tokens`, `text` is the tokens joined by one space and may be left out.
    """

    id: Annotated[str, Field(min_length=1, max_length=500)]
    text: Annotated[str, Field(min_length=1)]
    tokens: tuple[Annotated[str, Field(min_length=1)], ...] | None = None
    image: str | None = None
    extra: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _text_from_tokens(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("tokens") and not data.get("text"):
            tokens = data["tokens"]
            if isinstance(tokens, list | tuple) and all(isinstance(token, str) for token in tokens):
                data = {**data, "text": " ".join(tokens)}
        return data

    @model_validator(mode="after")
    def _tokens_match(self) -> Self:
        if self.tokens is not None and " ".join(self.tokens) != self.text:
            raise ValueError("`text` differs from the tokens joined by one space; give one of the two")
        if not self.text.strip():
            raise ValueError("the text is empty")
        return self


class Mention(Frozen):
    """A named entity in the text, as the tagger found it.

    `scores` is the pooled distribution over the tagger's finest types, best first. Section 3.3.1 of GEM defines it:
    mean over the mention's tokens, B and I of a type merged, softmax. `entropy` is its entropy in nats (equation 10).
    `confidence` is the calibrated probability that span and type are right, from a tagger that was calibrated. Where it
    is None it is not written, so that older recordings stay valid.
    """

    index: Annotated[int, Field(ge=0)]
    text: Annotated[str, Field(min_length=1)]
    start: Annotated[int, Field(ge=0)]
    end: int
    token_span: tuple[Annotated[int, Field(ge=0)], int]
    label: Literal["PER", "LOC", "ORG", "OTHER"]
    fine_label: str | None = None
    scores: Mapping[str, float] = Field(default_factory=dict)
    entropy: Annotated[float, Field(ge=0)] | None = None
    confidence: Annotated[float, Field(ge=0, le=1)] | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_span(self.text, self.start, self.end, self.token_span)
        _check_labels(self.label, self.fine_label)
        return self


class Grounding(Frozen):
    """Where a mention is in the picture. `groundable` is None when no matcher ran, or when it cannot tell."""

    groundable: bool | None = None
    match_score: Annotated[float, Field(ge=0, le=1)] | None = None
    box: Box | None = None
    mask: Mask | None = None
    peak: Point | None = None

    @model_validator(mode="after")
    def _nothing_without_groundable(self) -> Self:
        if not self.groundable and any(x is not None for x in (self.box, self.mask, self.peak)):
            raise ValueError("box, mask and peak must be null where the entity is not groundable")
        return self


class Entity(Frozen):
    """One named entity of an `Extraction`: the mention, its final type, and its grounding, in one flat object.

    `evidence` describes what the matcher found. `ambiguous` means that another mention or region competed for the same
    place. `near_gamma` means that the entropy lay within the gate's margin band. `mask_score` and `mask_stability` come
    from the segmenter. `type_confidence` is the calibrated probability that span and type are right, where the type is
    that of a calibrated tagger. `type_uncertain` means that it, or else the type's score, is below `gate.uncertain`.
    """

    text: Annotated[str, Field(min_length=1)]
    start: Annotated[int, Field(ge=0)]
    end: int
    token_span: tuple[Annotated[int, Field(ge=0)], int]
    label: Literal["PER", "LOC", "ORG", "OTHER"]
    fine_label: str | None = None
    scores: Mapping[str, float] = Field(default_factory=dict)
    entropy: float | None = None
    type_confidence: float | None = None
    type_uncertain: bool = False
    near_gamma: bool = False
    reranked: bool = False
    expression: str | None = None
    groundable: bool | None = None
    match_score: float | None = None
    box: Box | None = None
    mask: Mask | None = None
    peak: Point | None = None
    mask_score: float | None = None
    mask_stability: float | None = None
    ambiguous: bool = False
    evidence: str | None = None
    provenance: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _check_span(self.text, self.start, self.end, self.token_span)
        _check_labels(self.label, self.fine_label)
        self.grounding()
        return self

    def __repr__(self) -> str:
        fine = "unsure" if self.type_uncertain else self.fine_label
        place = {True: "in the picture", False: "not in the picture", None: "cannot tell" if self.cannot_tell else ""}
        where = place[self.groundable]
        return f"<Entity {self.text!r} {self.label}{f' {fine}' if fine else ''}{where and f', {where}'}>"

    __str__ = __repr__

    @property
    def cannot_tell(self) -> bool:
        """Whether a matcher looked at the picture and could not have seen this entity."""
        return self.groundable is None and "matcher" in self.provenance

    def grounding(self) -> Grounding:
        """The visual half alone."""
        return Grounding(
            groundable=self.groundable, match_score=self.match_score, box=self.box, mask=self.mask, peak=self.peak
        )


class Notice(Frozen):
    """A warning in a result: a `W` code (docs/errors.md), the tool that it concerns, and a message."""

    code: Annotated[str, Field(pattern=r"^W\d{3}$")]
    tool: str
    message: str


class PostUsage(Frozen):
    """What a post's model servers counted, without cached answers.

    Attributes:
        answers: number of answers.
        prompt_tokens: tokens of the prompts, pictures included.
        completion_tokens: tokens of the answers.
        money: their price; None where the profile names no price (`estimate.million_prompt_tokens`).
        currency: of the price.
    """

    answers: int
    prompt_tokens: int
    completion_tokens: int
    money: float | None = None
    currency: str | None = None


class Extraction(Frozen):
    """The result for one post. Its JSON form is the output format (docs/formats.md)."""

    id: str
    text: str
    tokens: tuple[str, ...]
    image: ImageRef | None = None
    status: Literal["ok", "degraded", "failed"] = "ok"
    warnings: tuple[Notice, ...] = ()
    entities: tuple[Entity, ...] = ()
    fingerprint: str
    timings_ms: Mapping[str, float] = Field(default_factory=dict)
    usage: Annotated[PostUsage | None, Field(exclude_if=lambda value: value is None)] = None
    extra: Mapping[str, Any] | None = None

    @field_validator("entities")
    @classmethod
    def _in_text_order(cls, entities: tuple[Entity, ...]) -> tuple[Entity, ...]:
        if list(entities) != sorted(entities, key=lambda e: (e.start, e.end)):
            raise ValueError("entities must be in the order of the text")
        return entities

    @model_validator(mode="after")
    def _offsets_match_text(self) -> Self:
        offsets = token_offsets(self.text, self.tokens)
        for entity in self.entities:
            first, last = entity.token_span
            if self.text[entity.start : entity.end] != entity.text:
                raise ValueError(f"entity {entity.text!r} is not what the text has at {entity.start}:{entity.end}")
            if last > len(offsets) or (offsets[first][0], offsets[last - 1][1]) != (entity.start, entity.end):
                raise ValueError(f"token span {entity.token_span} of {entity.text!r} does not cover its characters")
            if entity.mask and self.image and entity.mask.size != (self.image.height, self.image.width):
                raise ValueError(f"mask of {entity.text!r} has size {entity.mask.size}, not the picture's")
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} {self.status}, entities: {list(self.entities)}>"

    __str__ = __repr__

    def to_json(self) -> str:
        """One line of JSON, as in `predictions.jsonl`, without `extra` where the input had none."""
        return self.model_dump_json(exclude={"extra"} if self.extra is None else None)


def _check_span(text: str, start: int, end: int, token_span: tuple[int, int]) -> None:
    if end - start != len(text):
        raise ValueError(f"offsets {start}:{end} do not fit the {len(text)} characters of {text!r}")
    if token_span[1] <= token_span[0]:
        raise ValueError(f"token span {token_span} is empty or inverted")


def _check_labels(label: str, fine_label: str | None) -> None:
    if label not in COARSE4:
        raise ValueError(f"label {label!r} is not one of {COARSE4}")
    if fine_label is not None:
        if fine_label not in FINE51:
            raise ValueError(f"fine label {fine_label!r} is not one of the 51 types")
        if FINE_TO_COARSE4[fine_label] != label:
            raise ValueError(f"fine label {fine_label!r} belongs to {FINE_TO_COARSE4[fine_label]}, not {label}")
