"""`namepin pull`: fetches the weights that a profile names, pinned and checked."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from namepin.agent.cli.options import Json, Set
from namepin.tools.errors import Exit

if TYPE_CHECKING:
    from namepin.agent.workflows.pull import Plan, Progress, Repository

What = Annotated[
    str, typer.Argument(metavar="PROFILE", help="A profile, or weights: OWNER/NAME on the hub, or a published file.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be fetched, with sizes, and stop.")]
Update = Annotated[
    bool, typer.Option("--update", help="Forget the lock: take the shipped pin, else the newest commit.")
]
_PINNED_BY = {"lock": "locked", "profile": "the profile's", "namepin": "pinned", "hub": "newest, not pinned yet"}


def pull(what: What, set_: Set = None, dry_run: DryRun = False, update: Update = False, json: Json = False) -> int:
    """Fetch the weights of a profile: sizes first, resumable, every byte checked, the commit recorded in a lock."""
    from namepin.agent.cli.progress import doing
    from namepin.agent.workflows.hub import Hub
    from namepin.agent.workflows.pull import plan, settings_of, wanted_of
    from namepin.agent.workflows.pull import pull as fetch

    wanted, elsewhere = wanted_of(what, settings_of(what, set_ or ()))
    hub = Hub.from_environment()
    with doing("asking the hub for sizes"):
        planned = plan(hub, wanted, elsewhere, update=update)
    if not json:
        _print_plan(planned)
    if not dry_run:
        with _progress(planned) as progress:
            fetch(hub, planned, progress)
    missing = bool(elsewhere) and not dry_run
    if json:
        from namepin.tools.base import canonical_json

        print(canonical_json(_report(what, planned, dry_run)))
    elif not dry_run:
        print(f"{what} lacks: {', '.join(elsewhere)}" if missing else f"the weights of {what} are here and intact")
    return Exit.UNREACHABLE if missing else Exit.DONE


def _print_plan(planned: "Plan") -> None:
    from namepin.agent.workflows.pull import gigabytes

    for repository in planned.repositories:
        name = repository.wanted.name
        state = f"{gigabytes(repository.download)} to fetch" if repository.missing else "here"
        if repository.resumed:
            state += f" ({gigabytes(repository.resumed)} have arrived)"
        print(f"{name} at {repository.commit[:12]} ({_PINNED_BY[repository.pinned_by]})")
        print(f"  {len(repository.files)} files, {gigabytes(repository.size)}: {state}")
    for weights, command in planned.elsewhere.items():
        print(f"{weights} is not on a hub\n  fix: {command}")
    if not planned.repositories and not planned.elsewhere:
        print("nothing to fetch: everything ships with Namepin or its packages")
    elif planned.download:
        print(f"{gigabytes(planned.download)} to fetch, {gigabytes(planned.free)} free")


def _report(what: str, planned: "Plan", dry_run: bool) -> Mapping[str, Any]:
    rows = [
        {
            "name": repository.wanted.name,
            "revision": repository.commit,
            "pinned_by": repository.pinned_by,
            "bytes": repository.size,
            "to_fetch": repository.download,
            "files": {file.path: file.size for file in repository.files},
        }
        for repository in planned.repositories
    ]
    elsewhere = dict(planned.elsewhere)
    return {"what": what, "repositories": rows, "elsewhere": elsewhere, "free": planned.free, "fetched": not dry_run}


class _Lines:
    """Progress without a terminal: one line per repository."""

    def repository(self, repository: "Repository") -> None:
        print(f"fetching and checking {repository.wanted.name}", file=sys.stderr, flush=True)

    def advance(self, file: str, count: int) -> None:
        pass


@contextmanager
def _progress(planned: "Plan") -> "Iterator[Progress]":
    """A bar over all bytes on a terminal, lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines()
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bars:
        resumed = sum(repository.resumed for repository in planned.repositories)
        total = bars.add_task("", total=planned.download + resumed, completed=resumed)

        class Bar:
            def repository(self, repository: "Repository") -> None:
                bars.update(total, description=repository.wanted.name)

            def advance(self, file: str, count: int) -> None:
                bars.advance(total, count)

        yield Bar()
