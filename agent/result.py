"""A post's result with its picture at hand: shown, saved, and turned into the forms of other libraries."""

import html
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from pydantic import PrivateAttr

from namepin.agent.config.settings import ImageSettings
from namepin.agent.posts import Picture, load_picture
from namepin.agent.render.html import About, page
from namepin.agent.render.picture import annotate
from namepin.agent.render.table import print_table
from namepin.agent.render.view import PostView, score
from namepin.tools.errors import NamepinError, install_command
from namepin.tools.files import atomic_path, atomic_write
from namepin.tools.labels import COARSE4
from namepin.tools.types import Entity, Extraction

if TYPE_CHECKING:
    import pandas
    import supervision

NO_SUCH_FORM = "E111"
_NOTEBOOK_HEIGHT = 560


class Result(Extraction):
    """What `Namepin.extract` returns: an `Extraction` that remembers where its picture is.

    The picture itself is not kept in memory. It is read again when it is drawn.
    """

    _picture: Picture | None = PrivateAttr(None)
    _images: ImageSettings = PrivateAttr(default_factory=ImageSettings)
    _about: About = PrivateAttr(default_factory=lambda: About(""))
    _heat: Mapping[int, bytes] = PrivateAttr(default_factory=dict)

    @classmethod
    def of(
        cls,
        extraction: Extraction,
        picture: Picture | None,
        images: ImageSettings,
        about: About,
        heat: Mapping[int, bytes] | None = None,
    ) -> "Result":
        """The result of an extraction.

        Args:
            extraction: the extraction.
            picture: the post's picture as it was given; None without one.
            images: the bounds within which the picture is read again.
            about: the profile's name and the gate's threshold, for the page.
            heat: index of an entity -> its heat map, as `Namepin.astream` fills it.
        """
        result = cls.model_construct(**dict(extraction))
        result._picture, result._images, result._about = picture, images, about
        result._heat = heat or {}
        return result

    def __eq__(self, other: object) -> bool:
        """Whether both say the same of the post; where the picture is read from does not count."""
        return isinstance(other, Extraction) and dict(self) == dict(other)

    __hash__ = None  # type: ignore[assignment]  # like every model with mappings in it

    def to_dict(self) -> dict[str, Any]:
        """The result as in `predictions.jsonl`: only dicts, lists, text, numbers, booleans and None."""
        return self.model_dump(mode="json", exclude={"extra"} if self.extra is None else None)

    def to_rows(self) -> list[dict[str, Any]]:
        """One flat row per entity, for a table: all rows have the same keys."""
        return [_row(self, entity) for entity in self.entities]

    def to_pandas(self) -> "pandas.DataFrame":
        """`to_rows` as a data frame, which has its columns even without an entity.

        Raises:
            NamepinError: E301 when pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise _missing("pandas", "pandas") from error
        return pandas.DataFrame(self.to_rows(), columns=list(_COLUMNS))

    def to_detections(self) -> "supervision.Detections":
        """The entities with a box as `supervision.Detections`.

        `xyxy` is in pixels of the upright picture, `mask` is `(entities, height, width)` where every one has a mask,
        `confidence` is the match score, `class_id` counts `PER`, `LOC`, `ORG`, `OTHER` from 0. `data` has `class_name`,
        `fine_label` and `text`.

        Raises:
            NamepinError: E301 when supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise _missing("supervision", "supervision") from error
        import numpy as np

        found = [entity for entity in self.entities if entity.box is not None]
        if not found:
            return supervision.Detections.empty()
        masks = [entity.mask.to_array() for entity in found if entity.mask is not None]
        return supervision.Detections(
            xyxy=np.array([entity.box for entity in found], dtype=np.float32),
            mask=np.stack(masks) if len(masks) == len(found) else None,
            confidence=np.array([entity.match_score or 0.0 for entity in found], dtype=np.float32),
            class_id=np.array([COARSE4.index(entity.label) for entity in found]),
            data={
                "class_name": np.array([entity.label for entity in found]),
                "fine_label": np.array([entity.fine_label or "" for entity in found]),
                "text": np.array([entity.text for entity in found]),
            },
        )

    def above(self, min_score: float) -> "Result":
        """The same result with only the entities whose type has a probability of at least `min_score`.

        An entity without a probability stays.
        """
        scores = [score(entity) for entity in self.entities]
        numbers = [n for n, value in enumerate(scores) if value is None or value >= min_score]
        rest = self.model_copy(update={"entities": tuple(self.entities[n] for n in numbers)})
        rest._heat = {new: self._heat[old] for new, old in enumerate(numbers) if old in self._heat}
        return rest

    def annotated(self) -> Image.Image:
        """The picture with its boxes, masks and labels, and a legend of all entities.

        Raises:
            NamepinError: E111 when the post has no picture; E12x when it can no longer be read.
        """
        picture = self._load()
        if picture is None:
            what = "this result has no picture"
            raise NamepinError(NO_SUCH_FORM, what, where=self.id, mend="save it as .html or .json")
        return annotate(picture, self)

    def page(self) -> str:
        """The result as one HTML document that loads nothing.

        Raises:
            NamepinError: E12x when the picture can no longer be read.
        """
        return page([PostView(self, self._load(), self._heat)], self._about)

    def show(self) -> None:
        """Print the table, and open the annotated picture if there is one; in a notebook, show the page.

        Raises:
            NamepinError: E12x when the picture can no longer be read.
        """
        if _in_notebook():
            import_module("IPython.display").display(self)
            return
        print_table(self, sys.stdout)
        if self._picture is not None and self.image is not None:
            self.annotated().show(title=self.id)

    def save(self, file: str | Path) -> Path:
        """Write the annotated picture (`.png`), the page (`.html`) or the JSON (`.json`), by the file's ending.

        Returns:
            The file.

        Raises:
            NamepinError: E111 for another ending, or a `.png` of a post without a picture; E12x when the picture can no
                longer be read; E500 when the file cannot be written.
        """
        path = Path(file)
        form = path.suffix.lower()
        if form not in (".png", ".html", ".json"):
            what = f"{form or 'a name without an ending'} is not a form of a result"
            raise NamepinError(
                NO_SUCH_FORM, what, where=str(path), mend="give a name that ends in .png, .html or .json"
            )
        picture = self.annotated() if form == ".png" else None
        text = self.page() if form == ".html" else self.to_json() + "\n"
        try:
            if picture is None:
                atomic_write(path, text)
            else:
                with atomic_path(path) as partial:
                    picture.save(partial, "PNG", optimize=True)
        except OSError as error:
            what = f"cannot write the result: {error.strerror or error}"
            raise NamepinError("E500", what, where=str(path), mend="choose another file") from error
        return path

    def _repr_html_(self) -> str:
        """The page, in a frame of its own, for notebooks."""
        document = html.escape(self.page(), quote=True)
        return f'<iframe sandbox="allow-scripts" srcdoc="{document}" width="100%" height="{_NOTEBOOK_HEIGHT}"></iframe>'

    def _load(self) -> Image.Image | None:
        """The upright picture; None if the extraction went on without one."""
        if self._picture is None or self.image is None:
            return None
        return load_picture(self._picture, self._images).image


_COLUMNS = (
    "id", "text", "start", "end", "label", "fine_label", "type_uncertain", "score", "entropy",
    "groundable", "match_score", "x1", "y1", "x2", "y2", "evidence",
)  # fmt: skip


def _row(result: Extraction, entity: Entity) -> dict[str, Any]:
    x1, y1, x2, y2 = entity.box or (None,) * 4
    values = (
        result.id, entity.text, entity.start, entity.end, entity.label, entity.fine_label,
        entity.type_uncertain, score(entity), entity.entropy, entity.groundable, entity.match_score, x1, y1, x2, y2,
        entity.evidence,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))


def _missing(package: str, extra: str) -> NamepinError:
    return NamepinError("E301", f"{package} is not installed", mend=install_command(f"namepin[{extra}]"))


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config
