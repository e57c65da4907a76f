"""One predicted entity, and its type in each label scheme."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from namepin.evals.datasets.gold import Span
from namepin.tools.geometry import Rectangle
from namepin.tools.labels import COARSE4, COARSE8, COARSE8_TO_4, FINE51, FINE_TO_COARSE4, FINE_TO_COARSE8
from namepin.tools.types import Mask


def nowhere(number: int) -> Span:
    """The span of an entity whose offsets are not in the text.

    It counts as predicted and never matches. The number distinguishes two such entities of a post.
    """
    return -1 - number, -1


@dataclass(frozen=True, slots=True)
class Predicted:
    """One predicted entity.

    Attributes:
        span: character offsets in the gold text, or `nowhere`.
        text: the words at `span`.
        label: the given label: one of the 4, 8 or 51 types; any other is wrong.
        fine: one of the 51 types, where given.
        groundable: the given value; None where the system gave none.
        box: the predicted box; None where it is missing or unusable.
        mask: the same for the mask.
        match_score: the system's confidence that the entity is in the picture.
        scores: its distribution over its finest types.
        entropy: entropy of that distribution, in nats.
        reranked: whether a reranker chose the type; the tagger's type is then the best of `scores`.
        cannot_tell: whether the matcher said that it cannot tell; `groundable` is then how that is read.
    """

    span: Span
    text: str
    label: str
    fine: str | None = None
    groundable: bool | None = None
    box: Rectangle | None = None
    mask: Mask | None = None
    match_score: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    entropy: float | None = None
    reranked: bool = False
    cannot_tell: bool = False

    @property
    def says_groundable(self) -> bool:
        """The answer that counts: the given one, else whether there is a region."""
        if self.groundable is None:
            return self.box is not None or self.mask is not None
        return self.groundable


def label_in(scheme: str, predicted: Predicted) -> str | None:
    """The predicted type in a scheme, or None where it has none there, which is always wrong.

    In the 8 types it is the parent of the fine label, since the 4 types do not separate buildings from locations.
    """
    if scheme == "fmnerg51":
        return predicted.fine if predicted.fine in FINE51 else None
    if scheme == "fmnerg8":
        if predicted.fine in FINE51:
            return FINE_TO_COARSE8[predicted.fine]
        return predicted.label if predicted.label in COARSE8 else None
    if predicted.label in COARSE4:
        return predicted.label
    return COARSE8_TO_4.get(predicted.label) or FINE_TO_COARSE4.get(predicted.fine or "")
