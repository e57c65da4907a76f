"""What a tagger's type scores are worth: `calibration.json`, beside its adapter.

`python -m namepin.finetune.tagger.calibrate` fits it on annotated posts and writes it. The scores themselves, and the
entropy that the gate reads, stay as they are.
"""

from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from namepin.tools.errors import NamepinError
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.types import Frozen

CALIBRATION_FILE = "calibration.json"

_Share = Annotated[float, Field(ge=0, le=1)]


class Calibration(Frozen):
    """A rising curve from the score of a mention's type to the probability that its span and its type are right.

    Attributes:
        weights_sha256: sha256 of the adapter's weights that it was fitted for.
        spans: the tagger's setting of this name in the fit; with another one the curve says nothing.
        merge: likewise.
        lexicon: likewise.
        points: (score, probability), in rising order of both. Between points the curve is a straight line, beyond the
            first and the last it is flat.
        fit: the data, the method and the figures; for readers, not read back.
    """

    format: Literal[1] = 1
    weights_sha256: str
    spans: str
    merge: str
    lexicon: float
    points: Annotated[tuple[tuple[_Share, _Share], ...], Field(min_length=1)]
    fit: Mapping[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _rising(self) -> Self:
        for (score, share), (next_score, next_share) in zip(self.points, self.points[1:], strict=False):
            if next_score <= score or next_share < share:
                raise ValueError("the points do not rise")
        return self

    def fits(self, config: TaggerConfig) -> bool:
        """Whether the tagger runs as it did in the fit."""
        return (self.spans, self.merge, self.lexicon) == (config.spans, config.merge, config.lexicon)

    def probability(self, score: float) -> float:
        """The probability of the curve at this score, with 4 decimals."""
        at = bisect_right(self.points, (score, 2.0))
        if at in (0, len(self.points)):
            return round(self.points[max(0, at - 1)][1], 4)
        (low, bottom), (high, top) = self.points[at - 1], self.points[at]
        return round(bottom + (top - bottom) * (score - low) / (high - low), 4)


def read_calibration(folder: Path, weights_sha256: str) -> Calibration | None:
    """The calibration of an adapter folder; None where it has none.

    Raises:
        NamepinError: E212 when the file is invalid, or was fitted for other weights than these.
    """
    file = folder / CALIBRATION_FILE
    mend = f"python -m namepin.finetune.tagger.calibrate {folder} --data DATA/fmnerg, or remove the file"
    try:
        found = Calibration.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        first = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise NamepinError("E212", f"not a tagger's calibration: {first}", where=str(file), mend=mend) from error
    if found.weights_sha256 != weights_sha256:
        raise NamepinError("E212", "the calibration is of other weights", where=str(file), mend=mend)
    return found
