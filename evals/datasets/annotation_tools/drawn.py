"""Posts from an annotation tool, with the regions that were drawn for each mention.

A tool's file holds each post as a row in the key `namepin`, and regions in the tool's own form. The row's `has_boxes`
and `has_masks` state how the split is annotated, so that a missing region means "not in the picture".
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from namepin.evals.datasets.gold import Dataset, GoldPost
from namepin.evals.datasets.masks import DrawnRegion, box_around, join_masks
from namepin.evals.datasets.rows import PostRow, SplitCollector, gold_of
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import Rectangle
from namepin.tools.types import Mask, Post

_SLACK = 0.5
"""Pixels by which a box may leave the picture without a warning, since tools round percentages."""


def row_for_tool(row: PostRow, *regions: str) -> PostRow:
    """The row for the key `namepin`, without the entity lists that the tool holds as its own regions."""
    bare = [{key: value for key, value in entity.items() if key not in regions} for entity in row["entities"]]
    flags = {f"has_{kind}": any(kind in entity for entity in row["entities"]) for kind in ("boxes", "masks")}
    return {**row, "entities": bare, **flags}


def words_of(row: PostRow, entity: Mapping[str, Any]) -> str:
    """The text of a row's entity."""
    return str(row["text"])[entity["start"] : entity["end"]]


@dataclass
class DrawnPost:
    """A post and the regions of its entities.

    Attributes:
        gold: the post without the tool's regions.
        where: file and task, for messages.
        collector: collects the problems.
        has_boxes: whether the split has boxes; None if its row does not say.
        has_masks: the same for masks.
    """

    gold: GoldPost
    where: str
    collector: SplitCollector
    has_boxes: bool | None
    has_masks: bool | None
    boxes: dict[int, list[Rectangle]] = field(default_factory=dict)
    masks: dict[int, list[Mask]] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Any, folder: Path, where: str, collector: SplitCollector) -> "DrawnPost":
        """The post of a row.

        Raises:
            ValueError: when the row is invalid.
        """
        if not isinstance(row, Mapping):
            raise ValueError("the key `namepin` does not hold a post")
        flags = {kind: row.get(kind) for kind in ("has_boxes", "has_masks")}
        has_boxes, has_masks = (value if isinstance(value, bool) else None for value in flags.values())
        bare = {key: value for key, value in row.items() if key not in flags}
        return cls(gold_of(bare, folder, where), where, collector, has_boxes, has_masks)

    def note_loss(self, what: str) -> None:
        """List a region that is left out."""
        self.collector.problem("E133", self.where, f"{what}; it is left out", loses="boxes")

    def note_change(self, what: str) -> None:
        """List a region that is read in another form than the drawn one."""
        self.collector.problem("W133", self.where, what)

    def draw_box(self, numbers: Sequence[int], box: Sequence[float], name: str) -> None:
        """Add a box for some entities; an empty one is listed."""
        x1, y1, x2, y2 = (float(value) for value in box)
        if not (x1 < x2 and y1 < y2):
            self.note_loss(f"{name} is empty: {[x1, y1, x2, y2]}")
            return
        if self.gold.size:
            width, height = self.gold.size
            if x1 < -_SLACK or y1 < -_SLACK or x2 > width + _SLACK or y2 > height + _SLACK:
                self.note_change(f"{name} leaves the {width}x{height} picture: {[x1, y1, x2, y2]}; it is read as drawn")
        if self.has_masks and not self.has_boxes and self.gold.size:
            self.draw_mask(numbers, join_masks([[(x1, y1), (x2, y1), (x2, y2), (x1, y2)]], self.gold.size[::-1]))
            return
        for number in numbers:
            self.boxes.setdefault(number, []).append((x1, y1, x2, y2))

    def draw_mask(self, numbers: Sequence[int], mask: Mask) -> None:
        """Add a mask for some entities."""
        for number in numbers:
            self.masks.setdefault(number, []).append(mask)

    def draw_region(self, numbers: Sequence[int], regions: Sequence[DrawnRegion], name: str) -> None:
        """Add a region that is not an upright box: as a mask, or as the box around it if the split has only boxes."""
        sizes = {region.size for region in regions if isinstance(region, Mask)}
        picture = self.gold.size[::-1] if self.gold.size else None
        size = next(iter(sizes)) if len(sizes) == 1 else picture
        if not (self.has_masks or (self.has_boxes is None and size)):
            self.draw_around(numbers, regions, name)
            return
        try:
            if size is None:
                raise ValueError("its picture's size is unknown")
            if len(sizes) > 1:
                raise ValueError(f"its parts are of the sizes {sorted(sizes)} (height, width)")
            if picture and size != picture:
                self.note_change(
                    f"{name} is a mask of {size}, the picture is {picture} (height, width); it is read as it is"
                )
            self.draw_mask(numbers, join_masks(regions, size))
        except (ValueError, MemoryError) as error:
            self.note_loss(f"{name} cannot be read: {error}")

    def draw_around(self, numbers: Sequence[int], regions: Sequence[DrawnRegion], name: str) -> None:
        """Add the upright box around some regions."""
        try:
            corners = [box_around(region) for region in regions]
            xs1, ys1, xs2, ys2 = zip(*corners, strict=True)
            box = self._clip([min(xs1), min(ys1), max(xs2), max(ys2)])
        except (ValueError, MemoryError) as error:
            self.note_loss(f"{name} cannot be read: {error}")
            return
        self.note_change(f"{name} is not an upright box; the box around it is read: {box}")
        self.draw_box(numbers, box, name)

    def _clip(self, box: list[float]) -> list[float]:
        if not self.gold.size:
            return box
        width, height = self.gold.size
        x1, y1, x2, y2 = (
            min(max(value, 0), bound) for value, bound in zip(box, (width, height, width, height), strict=True)
        )
        if not (x1 < x2 and y1 < y2):
            raise ValueError("it lies outside the picture")
        return [round(value, 2) for value in (x1, y1, x2, y2)]

    def gold_post(self) -> GoldPost:
        """The post with its regions. In a split with boxes, no box means "not in the picture"; the same for masks."""
        with_boxes, with_masks = self.has_boxes or bool(self.boxes), self.has_masks or bool(self.masks)
        entities = []
        for number, entity in enumerate(self.gold.entities):
            if with_boxes:
                entity = replace(entity, boxes=tuple(self.boxes.get(number, ())))
            if with_masks:
                entity = replace(entity, masks=tuple(self.masks.get(number, ())))
            entities.append(entity)
        return replace(self.gold, entities=tuple(entities))


def posts_of(read: Callable[[Path, str], Dataset], root: Path, split: str) -> Iterator[tuple[str, Post]]:
    """The posts of a data set that is read at once, each with its place.

    Raises:
        NamepinError: as `read`, or the first fatal problem.
    """
    data = read(root, split)
    fatal = next((problem for problem in data.problems if problem.fatal), None)
    if fatal:
        raise NamepinError(fatal.code, fatal.what, where=fatal.where, mend="fix the file")
    return ((gold.where, gold.post) for gold in data.posts)
