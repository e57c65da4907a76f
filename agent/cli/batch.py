"""`namepin batch`: many posts, overnight."""

import sys
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from namepin.agent.cli.options import Graph, Profile, Set
from namepin.graphs.names import GraphName
from namepin.tools.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Callable

    from namepin.agent.batch.writing import Progress

INTERRUPTED = 130
EVERY_S = 10.0


class Only(StrEnum):
    """Parts of the work that can run alone."""

    masks = "masks"


class Engine(StrEnum):
    """The engine that does the work."""

    local = "local"
    ray = "ray"


Input = Annotated[str, typer.Argument(metavar="INPUT", help="JSONL, Parquet, or a data set as gmner:ROOT:SPLIT.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Results; the same command resumes there.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this number of input rows.")]
AtOnce = Annotated[int, typer.Option("--at-once", min=1, max=1024, help="Posts with pictures processed at a time.")]
OnlyFlag = Annotated[Only | None, typer.Option("--only", help="masks: rows are predictions; add masks.")]
Together = Annotated[
    int | None, typer.Option("--together", min=1, max=1024, help="Posts per tool call (128); 1: each post alone.")
]
EstimateFlag = Annotated[
    int | None,
    typer.Option("--estimate", min=1, metavar="N", help="Only estimate N such posts: time, tokens, money."),
]
JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the estimate as JSON.")]
EngineFlag = Annotated[Engine, typer.Option("--engine", help="local: this process; ray: a cluster.")]
Address = Annotated[
    str | None, typer.Option("--address", help="A running Ray cluster, as HOST:6379; default: start Ray here.")
]
Repair = Annotated[bool, typer.Option("--repair", help="Continue damaged results: keep whole rows, repeat the others.")]
Parquet = Annotated[bool, typer.Option("--parquet", help="Also write the results as Parquet.")]


def batch(
    input: Input,
    out: Out = None,
    profile: Profile = None,
    graph: Graph = None,
    limit: Limit = None,
    at_once: AtOnce = 16,
    only: OnlyFlag = None,
    together: Together = None,
    estimate: EstimateFlag = None,
    json: JsonFile = None,
    engine: EngineFlag = Engine.local,
    address: Address = None,
    repair: Repair = False,
    parquet: Parquet = False,
    set_: Set = None,
) -> int:
    """Find the names of many posts; resumable, in the order of the input."""
    if estimate is not None:
        return _estimate(input, estimate, profile, graph, limit, at_once, together, set_, json, engine)
    if out is None:
        raise typer.BadParameter("one of --out DIR and --estimate N is needed")
    from namepin.agent.batch.out_folder import spare_input
    from namepin.agent.batch.source import Source
    from namepin.agent.cli.checks import check_folder
    from namepin.agent.cli.progress import say_loading
    from namepin.agent.config.settings import load_settings

    if engine is Engine.ray and only:
        raise typer.BadParameter("--only masks runs on the local engine")
    if address and engine is not Engine.ray:
        raise typer.BadParameter("--address goes with --engine ray")
    source = Source(input, predictions=only is Only.masks)
    settings = load_settings(profile, assignments=set_ or (), overrides={"graph": graph.value} if graph else {})
    check_folder(out)
    spare_input(source.path, out)
    source.check()
    say_loading(f"the tools of profile {settings.profile}")

    from namepin.agent.workflows.batch import run

    with _shown(source.name) as on_progress:
        progress, stopped = run(
            settings,
            source,
            out,
            engine=engine.value,
            address=address,
            at_once=at_once,
            together=together,
            limit=limit,
            masks=only is Only.masks,
            repair=repair,
            on_progress=on_progress,
        )
    if parquet and not stopped:
        from namepin.agent.batch.parquet import write_parquet

        write_parquet(out)
    for line in _summary(progress, out):
        print(line, file=sys.stderr)
    if stopped:
        print("stopped; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    return Exit.SOME_FAILED if progress.failed else Exit.DONE


def _estimate(
    input: str,
    posts: int,
    profile: str | None,
    graph: GraphName | None,
    limit: int | None,
    at_once: int,
    together: int | None,
    assignments: list[str] | None,
    file: Path | None,
    engine: Engine,
) -> int:
    from json import dumps

    from namepin.agent.batch.source import Source
    from namepin.agent.cli.checks import check_writable
    from namepin.agent.cli.progress import doing, say_loading
    from namepin.agent.config.settings import load_settings

    check_writable(file)
    source = Source(input)
    settings = load_settings(profile, assignments=assignments or (), overrides={"graph": graph.value} if graph else {})
    source.check()
    say_loading(f"the tools of profile {settings.profile}")
    from namepin.agent.estimate.page import describe_estimate, report
    from namepin.agent.estimate.sample import estimate_batch

    with doing(f"measuring a sample of {source.name}"):
        expected, work = estimate_batch(
            settings, source, posts, at_once=at_once, together=together, limit=limit, ray=engine is Engine.ray
        )
    print(describe_estimate(expected, work))
    if file:
        file.write_text(dumps(report(expected, work), indent=1) + "\n", "utf-8")
    return Exit.DONE


def _summary(progress: "Progress", out: Path) -> list[str]:
    """The counts of rows by outcome, the first failure's reason, and the file with all failures."""
    from json import loads

    from namepin.agent.batch.finished import FAILURES, PREDICTIONS
    from namepin.agent.batch.out_folder import DEGRADED
    from namepin.agent.render.view import printable

    again = f", {progress.resumed} of them before" if progress.resumed else ""
    counts = f"{progress.failed} failed" + (f", {progress.degraded} degraded" if progress.degraded else "")
    lines = [f"{progress.done} rows{again}, {counts}, {progress.rate:.1f} posts/s: {out}"]
    if progress.failed:
        with (out / FAILURES).open("rb") as file:
            failure = loads(file.readline())
        lines.append(f"failed: {failure['where']}: {failure['code']}: {failure['reason']}; {out / FAILURES} has each")
    if progress.degraded:
        with (out / PREDICTIONS).open("rb") as file:
            post = loads(next(line for line in file if DEGRADED in line))
        notice = post["warnings"][0]
        reason = f"{post['id']}: {notice['code']} {notice['tool']}: {notice['message']}"
        lines.append(f"degraded: {reason}; {out / PREDICTIONS} has each")
    return [" ".join(printable(line).split()) for line in lines]


class _shown:  # used as a function
    """Progress while the block runs: a bar on a terminal, a line from time to time elsewhere."""

    def __init__(self, name: str) -> None:
        self.name, self._last = name, 0.0

    def __enter__(self) -> "Callable[[Progress], None]":
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        console = Console(file=sys.stderr)
        self._bar = None
        if console.is_terminal:
            self._bar = Bar(BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console)
            self._bar.start()
            self._task = self._bar.add_task(self.name, total=None)
        return self._print_warnings

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def _print_warnings(self, progress: "Progress") -> None:
        if self._bar:
            self._bar.update(
                self._task, description=_text(progress), completed=progress.done, total=progress.total or None
            )
        elif progress.seconds - self._last >= EVERY_S:
            self._last = progress.seconds
            print(_text(progress), file=sys.stderr, flush=True)


def _text(progress: "Progress") -> str:
    of = f" of {progress.total}" if progress.total else ""
    left = "" if progress.left_s is None else f", {timedelta(seconds=round(progress.left_s))} left"
    return f"{progress.done}{of} rows, {progress.rate:.1f} per second, {progress.failed} failed{left}"
