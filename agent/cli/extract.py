"""`namepin extract`: the names of one post, or of a file of posts."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from namepin.agent.cli.options import Folder, Graph, Profile, Set
from namepin.tools.errors import Exit, NamepinError

if TYPE_CHECKING:
    from PIL import Image

    from namepin.agent.config.settings import Settings
    from namepin.agent.posts import Ready
    from namepin.agent.render.files import Results
    from namepin.tools.types import Extraction, Post


class Format(StrEnum):
    """The printed form."""

    table = "table"
    json = "json"
    html = "html"


def extract(
    text: Annotated[str | None, typer.Argument(help="The post's text; - reads it from standard input.")] = None,
    image: Annotated[Path | None, typer.Option("--image", metavar="FILE", help="The post's picture.")] = None,
    posts: Annotated[
        Path | None, typer.Option("--posts", metavar="FILE", help="JSONL of posts instead of TEXT: id, text, image.")
    ] = None,
    profile: Profile = None,
    graph: Graph = None,
    format: Annotated[Format, typer.Option("--format", help="What to print.")] = Format.table,
    out: Folder = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="DIR", help="Record every tool call, for namepin replay.")
    ] = None,
    set_: Set = None,
) -> int:
    """Find the names of a post, their types, and their places in the picture."""
    if (text is None) == (posts is None):
        raise NamepinError("E105", "give either TEXT or --posts FILE", mend="see namepin extract --help")
    if posts and image:
        raise NamepinError("E105", "--image goes with TEXT", mend="name each post's picture in the --posts file")

    from namepin.agent.config.settings import load_settings
    from namepin.agent.posts import as_post, read_posts
    from namepin.agent.posts import ready as make_ready
    from namepin.agent.render.files import Results, written_files
    from namepin.agent.render.html import About
    from namepin.graphs.recording.recorder import Recorder
    from namepin.tools.types import Post

    # The input is checked before the graph and the tools are imported, which takes seconds.
    settings = load_settings(profile, assignments=set_ or (), overrides={"graph": graph.value} if graph else {})
    given = list(read_posts(posts)) if posts else [make_ready(as_post(_text(text or "")), image, settings.images)]
    if out:
        plain = [post if isinstance(post, Post) else post.post for post in given]
        _spare_inputs(written_files(out, [p.id for p in plain]), [posts, image, *(p.image for p in plain)])
    results = Results(out, About(settings.profile, settings.gate.gamma, settings.match.threshold))
    if record:
        Recorder(record, graph="", profile={}).check()
    failed = 0
    for extraction, picture, heat in _extract_posts(settings, given, record):
        failed += extraction.status == "failed"
        results.add(extraction, picture, heat)
        _show(results, format)
    results.finish()
    if format is Format.html:
        print(results.page())
    if out:
        print(f"results in {out}: open {out / 'index.html'}", file=sys.stderr)
    return Exit.SOME_FAILED if failed else Exit.DONE


def _spare_inputs(written: set[Path], inputs: "Iterable[str | Path | None]") -> None:
    """Refuse an output folder where a result would replace an input.

    Raises:
        NamepinError: E105.
    """
    for path in inputs:
        if path is not None and Path(path).resolve() in written:
            what = "a result would replace an input"
            raise NamepinError("E105", what, where=str(path), mend="choose another --out")


def _text(argument: str) -> str:
    """The post's text. Bytes that are not UTF-8 arrive as lone surrogates, which the post's cleaning reports."""
    if argument != "-":
        return argument
    return sys.stdin.buffer.read().decode("utf-8-sig", "surrogateescape").removesuffix("\n").removesuffix("\r")


def _extract_posts(
    settings: "Settings", posts: "Iterable[Post | Ready]", record: Path | None
) -> "Iterator[tuple[Extraction, Image.Image | None, dict[int, bytes]]]":
    """Each post's extraction, its upright picture, and its heat maps.

    An error with a prepared post ends the command.
    """
    from namepin.agent.cli.progress import doing, extract_showing
    from namepin.agent.posts import Ready
    from namepin.graphs.recording.recorder import Recorder

    with doing("loading the tools"):
        from namepin.agent.api import Namepin

        pin = Namepin(settings)
        pin.calls  # noqa: B018  # builds them
    recorder = Recorder(record, graph=pin.graph.name, profile=pin.settings.dump()) if record else None
    with recorder or nullcontext():
        for post in posts:
            heat: dict[int, bytes] = {}
            if isinstance(post, Ready):
                yield extract_showing(pin, post, recorder, heat), _pixels(post), heat
                continue
            picture = None
            try:
                prepared = pin.ready(post)
                picture = _pixels(prepared)
                extraction = extract_showing(pin, prepared, recorder, heat)
            except Exception as error:  # one post never ends a file of posts
                extraction = pin.failed_extraction(post, error)
            yield extraction, picture, heat


def _pixels(post: "Ready") -> "Image.Image | None":
    return post.picture.image if post.picture else None


def _show(results: "Results", format: Format) -> None:
    """Print newly added results, so that long runs show them at once."""
    from namepin.agent.render.table import print_table

    extraction = results.shown[-1].extraction
    if format is Format.json:
        print(extraction.to_json(), flush=True)
    elif format is Format.table:
        print_table(extraction, sys.stdout, first=len(results.shown) == 1)
