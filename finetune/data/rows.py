"""Rows of the visual recipes: a mention, the picture of its post, and its regions."""

from collections.abc import Mapping
from dataclasses import dataclass

from namepin.evals.overlap import TrainedPosts
from namepin.tools.geometry import Rectangle, box_area
from namepin.tools.interfaces import Query
from namepin.tools.referring import Reading, referring_expression
from namepin.tools.types import Mask


@dataclass(frozen=True)
class MentionRow:
    """A gold mention and the picture of its post."""

    post: str
    """The post's id."""

    text: str
    image: str
    query: Query
    boxes: tuple[Rectangle, ...]
    masks: tuple[Mask, ...] = ()
    expansion: str | None = None
    caption: str | None = None
    reading: Reading = "both"

    @property
    def groundable(self) -> bool:
        """Whether the mention is in the picture."""
        return bool(self.boxes or self.masks)

    @property
    def expression(self) -> str:
        """The referring expression, `Named Entity (TYPE) – expansion` (RiVEG section IV-B2), or the part to be read."""
        return referring_expression(self.query.text, self.query.label, self.expansion, self.reading)

    @property
    def largest(self) -> Rectangle:
        """The box with the largest area, the only gold label of RiVEG's grounding."""
        return max(self.boxes, key=box_area)


@dataclass(frozen=True)
class Split:
    """A split's mentions, the sha256 of the files read (without pictures), and the file of the texts."""

    rows: tuple[MentionRow, ...]
    data: Mapping[str, str]
    file: str

    @property
    def trained_posts(self) -> TrainedPosts:
        """The record of the mentions' posts."""
        return TrainedPosts.of((row.post, row.text) for row in self.rows)
