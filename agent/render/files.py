"""The output folder: predictions, one annotated picture per post, one page."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from namepin.agent.render.html import About, page, shrink
from namepin.agent.render.picture import annotate
from namepin.agent.render.view import PostView
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_path, atomic_write, file_name
from namepin.tools.types import Extraction

PREDICTIONS, PAGE = "predictions.jsonl", "index.html"


class Results:
    """Collects extractions. Each is written at once; the page is written at the end.

    Only a reduced copy of each picture is kept in memory, for the page.

    Args:
        folder: folder to write to; None only collects.
        about: facts about the run, for the page.

    Raises:
        NamepinError: E500 when the folder cannot be created or written, before the work instead of after it.
    """

    def __init__(self, folder: Path | None, about: About) -> None:
        self.folder, self.about = folder, about
        self.shown: list[PostView] = []
        if folder is not None:
            with _writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                atomic_write(folder / PREDICTIONS, b"")  # a link of that name is replaced, and not followed

    def add(self, extraction: Extraction, picture: Image.Image | None, heat: Mapping[int, bytes] | None = None) -> None:
        """Append to `predictions.jsonl` and write the annotated picture, `ID.png`. The page shows the heat maps."""
        self.shown.append(PostView(extraction, shrink(picture) if picture else None, heat or {}))
        if self.folder is None:
            return
        with _writing(self.folder):
            with (self.folder / PREDICTIONS).open("a", encoding="utf-8") as file:
                file.write(extraction.to_json() + "\n")
            if picture:
                with atomic_path(self.folder / file_name(extraction.id, ".png")) as partial:
                    annotate(picture, extraction).save(partial, "PNG", optimize=True)

    def page(self) -> str:
        """The page of all posts so far."""
        return page(self.shown, self.about)

    def finish(self) -> None:
        """Write `index.html`."""
        if self.folder is not None:
            with _writing(self.folder):
                atomic_write(self.folder / PAGE, self.page())


def written_files(folder: Path, ids: Iterable[str]) -> set[Path]:
    """Every file that `Results` may write for these posts, resolved."""
    names = [PREDICTIONS, PAGE, *(file_name(post_id, ".png") for post_id in ids)]
    return {(folder / name).resolve() for name in names}


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        mend = "choose another folder with --out"
        raise NamepinError("E500", f"cannot write the results: {reason}", where=str(folder), mend=mend) from error
