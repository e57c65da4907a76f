"""A data set in memory: posts with their gold entities, and all problems found while reading them."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

from namepin.tools.errors import NamepinError
from namepin.tools.geometry import Rectangle
from namepin.tools.types import Mask, Post

Span = tuple[int, int]
"""`(start, end)` characters of the post's text, end exclusive: the identity of an entity within its post."""

SMALL_AREA = 1 / 50
"""GEM's Table 2 calls an entity visually fine-grained when its gold area is below this part of the picture."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of the data or the predictions, with its place.

    A fatal problem makes the file unusable for scoring. Any other problem is listed, and its `what` says how it was
    counted. `loses` is the data that the reader left out because of it, and that training misses.
    """

    code: str
    where: str
    what: str
    fatal: bool = False
    loses: Literal["", "type", "boxes", "masks"] = ""


@dataclass(frozen=True, slots=True)
class GoldEntity:
    """One annotated entity.

    Attributes:
        text: the entity's words, tokens joined by one space.
        span: character offsets in the post's text.
        token_span: token offsets, end exclusive.
        label: the type, in the data set's own scheme (4 types, or FMNERG's 8).
        fine: one of FMNERG's 51 types, where annotated.
        boxes: every gold box; empty means "not in the picture"; None means that the release has no boxes.
        masks: the same for masks.
    """

    text: str
    span: Span
    token_span: Span
    label: str
    fine: str | None = None
    boxes: tuple[Rectangle, ...] | None = None
    masks: tuple[Mask, ...] | None = None

    @property
    def groundable(self) -> bool:
        """Whether the annotators found the entity in the picture."""
        return bool(self.boxes) or bool(self.masks)


@dataclass(frozen=True, slots=True)
class GoldPost:
    """A post and its entities in text order; `size` is the picture's (width, height) if the release states it."""

    post: Post
    entities: tuple[GoldEntity, ...]
    size: tuple[int, int] | None = None
    where: str = ""

    def is_small(self, entity: GoldEntity) -> bool:
        """Whether the entity's largest gold box covers less than `SMALL_AREA` of the picture, whose size is known."""
        if not entity.boxes or not self.size:
            return False
        largest = max((box[2] - box[0]) * (box[3] - box[1]) for box in entity.boxes)
        return largest < SMALL_AREA * self.size[0] * self.size[1]

    @property
    def duplicates(self) -> int:
        """Entities that repeat the words of an earlier one: text identity cannot tell them apart."""
        return len(self.entities) - len({entity.text for entity in self.entities})


@dataclass(frozen=True)
class Dataset:
    """One split of one release.

    Attributes:
        name: its name for `--dataset`.
        split: the split's name as given by the user.
        scheme: the label scheme of `GoldEntity.label` (tools/labels.py).
        release: the published release the file is byte-identical to, or "release unknown".
        sha256: sha256 of the split's text file.
        posts: the posts in the file's order.
        problems: all problems, with file and line.
        has_images: whether the pictures are available.
    """

    name: str
    split: str
    scheme: str
    release: str
    sha256: str
    posts: tuple[GoldPost, ...]
    problems: tuple[Problem, ...] = ()
    has_boxes: bool = False
    has_masks: bool = False
    has_fine: bool = False
    has_images: bool = False

    @property
    def title(self) -> str:
        """A description for the head of a report: "Twitter-GMNER v2.0 dev, 1500 posts, sha256 07435237d7bf"."""
        return f"{self.release}, {len(self.posts)} posts, sha256 {self.sha256[:12]}"

    def usable(self) -> "Dataset":
        """The data set itself, after checking that it can be scored.

        Raises:
            NamepinError: the first fatal problem, or E139 when there are no posts.
        """
        for problem in self.problems:
            if problem.fatal:
                raise NamepinError(problem.code, problem.what, where=problem.where, mend="fix the file")
        if not self.posts:
            raise NamepinError("E139", f"split {self.split!r} of {self.name} holds no post")
        return self

    def only(self, ids: Collection[str]) -> "Dataset":
        """The posts whose id is listed.

        Raises:
            NamepinError: E135 when an id is not in this split.
        """
        known = {gold.post.id for gold in self.posts}
        missing = sorted(set(ids) - known)
        if missing:
            shown = ", ".join(missing[:5])
            raise NamepinError("E135", f"{len(missing)} listed ids are not in {self.name} {self.split}: {shown}")
        chosen = tuple(gold for gold in self.posts if gold.post.id in ids)
        part = f"{self.release}, part" if len(chosen) < len(self.posts) else self.release
        return replace(self, posts=chosen, release=part)
