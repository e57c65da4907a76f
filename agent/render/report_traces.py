"""One page per post with the steps behind its result; a report's error browser links to the pages."""

from collections.abc import Mapping
from pathlib import Path

from namepin.agent.render.html import About, page, shrink
from namepin.agent.render.saved_results import read_saved
from namepin.agent.render.view import PostView
from namepin.tools.errors import NamepinError
from namepin.tools.files import atomic_write, file_name
from namepin.tools.images.load import load_image


class Traces:
    """Writes requested pages into a folder beside the report, `REPORT-traces/`.

    Args:
        report: the report's file.
        saved: the run's results, as saved by `namepin eval --save`.
        pictures: post id -> path of its picture, if any.
        about: text for the head of each page.
    """

    def __init__(self, report: Path, saved: Path, pictures: Mapping[str, str | None], about: About) -> None:
        self.folder = report.with_name(f"{report.stem}-traces")
        self.results = {extraction.id: extraction for extraction in read_saved(saved)}
        self.pictures, self.about = pictures, about

    def __call__(self, post_id: str) -> str | None:
        """Write a post's page and return its link, relative to the report; None for a post without a result.

        Raises:
            NamepinError: E500 when the page cannot be written.
        """
        if post_id not in self.results:
            return None
        name = file_name(post_id, ".html")
        picture = None
        if (path := self.pictures.get(post_id)) and self.results[post_id].image:
            picture = shrink(load_image(path).image)
        try:
            self.folder.mkdir(exist_ok=True)
            atomic_write(self.folder / name, page([PostView(self.results[post_id], picture)], self.about))
        except OSError as error:
            raise NamepinError("E500", f"cannot write the traces: {error.strerror}", where=str(self.folder)) from error
        return f"{self.folder.name}/{name}"
