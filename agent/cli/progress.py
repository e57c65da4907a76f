"""Progress on stderr: a line before a long start, and on a terminal one changing line while posts are processed."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from namepin.agent.api import Namepin
    from namepin.agent.posts import Ready
    from namepin.graphs.recording.recorder import Recorder
    from namepin.tools.types import Extraction


def say_loading(what: str) -> None:
    """Print what is being loaded. Call this after the cheap checks and before the heavy imports.

    Args:
        what: the parts to load, for example `the tools of profile starter`.
    """
    print(f"loading {what}", file=sys.stderr, flush=True)


def warn(line: str) -> None:
    """Print a warning, if there is one."""
    if line:
        print(f"warning: {line}", file=sys.stderr, flush=True)


@contextmanager
def doing(message: str) -> Iterator[Callable[[str], None]]:
    """Show a line while the block runs; yields the function that changes it.

    The block must not print: rich would redirect stdout to the progress line's terminal.
    """
    from rich.console import Console

    console = Console(file=sys.stderr, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status(message) as status:
        yield lambda changed: status.update(changed)


def extract_showing(
    pin: "Namepin", post: "Ready", recorder: "Recorder | None", heat: dict[int, bytes] | None = None
) -> "Extraction":
    """`Namepin.extract` with a line of the running step and the last results; `heat` as in `Namepin.astream`."""
    from rich.markup import escape

    from namepin.agent.render.view import short
    from namepin.tools.types import Extraction

    name = escape(short(post.post.id, 30))
    done: list[str] = []
    with doing(f"[bold]{name}[/bold]") as show:
        for event in pin.stream(post, recorder=recorder, heat=heat):
            if isinstance(event, Extraction):
                return event
            if event.phase == "finished":
                done.append(f"{event.step} [dim]{escape(short(event.summary, 40))}[/dim]")
            running = "" if event.phase == "finished" else f"{event.step} ..."
            show(f"[bold]{name}[/bold]  {'  '.join([*done[-3:], running])}")
    raise AssertionError("a stream ends with its extraction")


@contextmanager
def count_progress(what: str, total: int, console: "Console") -> Iterator[Callable[[], None]]:
    """A progress bar over posts while the block runs; yields the function to call after each post."""
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what, total=total)
        yield lambda: progress.advance(bar)
