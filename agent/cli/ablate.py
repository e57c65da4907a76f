"""`namepin ablate`: the papers' tables, row by row."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from namepin.agent.cli.checks import check_writable
from namepin.agent.cli.options import AllowOverlap, DatasetName, Profile
from namepin.agent.cli.progress import count_progress, say_loading, warn
from namepin.tools.errors import Exit, NamepinError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from namepin.agent.workflows.ablate import RowResult
    from namepin.evals.ablations import Ablation, Cell
    from namepin.evals.scoring.entropy_bins import GateReport

MOST_INTERVALS = 3
"""Largest number of columns whose intervals fit a terminal; the JSON always has intervals."""


def ablate(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Name of the ablation; default: list all.")
    ] = None,
    dataset: Annotated[DatasetName | None, typer.Option("--dataset", help="Which data set.")] = None,
    root: Annotated[Path | None, typer.Option("--root", metavar="DIR", help="Its folder.")] = None,
    split: Annotated[str, typer.Option("--split", help="Which split.")] = "dev",
    profile: Profile = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="Save every run's results there; a rerun resumes."),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the table as JSON.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write the table as a page.")] = None,
    allow_overlap: AllowOverlap = False,
    list_: Annotated[bool, typer.Option("--list", help="List every definition with what it needs.")] = False,
) -> int:
    """Run a table of the papers. A row that cannot run here shows its command and the reason."""
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    if name is None or list_:
        _list(console)
        return Exit.DONE
    from namepin.agent.config.settings import load_settings
    from namepin.evals.ablations import ablation_named
    from namepin.evals.run import load_dataset

    ablation = ablation_named(name)
    if dataset is None or root is None:
        mend = f"add --dataset {ablation.datasets[0]} --root DIR"
        raise NamepinError("E139", "an ablation needs a data set", where=name, mend=mend)
    for file in (json, html, save / "runs.txt" if save else None):
        check_writable(file)
    if profile:
        load_settings(profile)  # reports errors before anything is loaded
    data = load_dataset(dataset.value, root, split)
    from namepin.agent.workflows.ablate import Bench, write_json

    bench = Bench(data, root, profile, save, allow_overlap=allow_overlap)
    for line in dict.fromkeys(overlap.warning for overlap in bench.overlaps(ablation)):
        warn(line)
    say_loading("the tools of the rows that can run here")
    with count_progress("posts", bench.posts_to_run(ablation), Console(stderr=True)) as done:
        bench.done = lambda _: done()
        results = list(bench.run(ablation))
    _show(ablation, data.title, results, console)
    if json:
        write_json(json, ablation, data, results)
    if html:
        _write_html(html, ablation, data.title, results)
    return Exit.DONE


def _show(ablation: "Ablation", title: str, results: "Sequence[RowResult]", console: "Console") -> None:
    """The table of the rows that ran, then their notes, then the rows that did not run."""
    console.print(f"{ablation.source}: {ablation.title}\n{title}")
    console.print(_table(ablation, [(r.name, r.cells) for r in results if not r.why_not]))
    for result in results:
        if result.gate:
            console.print(result.name)
            console.print(gate_table(result.gate))
    for result in results:
        if result.mark:
            console.print(f"{result.name}: {result.mark}")
        if result.note and not result.why_not:
            console.print(f"{result.name}: {result.note}")
        if result.why_not:
            console.print(f"\nnot run: {result.name}", soft_wrap=True)
            for reason in result.why_not:
                console.print(f"  because {reason}", soft_wrap=True)
            console.print(f"  {result.command}", soft_wrap=True)


def _write_html(file: Path, ablation: "Ablation", title: str, results: "Sequence[RowResult]") -> None:
    from namepin.evals.sweep_html import write_table

    rows = [
        [r.name, *(_format(r.cells[c], False) if r.cells else "not run" for c in ablation.columns)] for r in results
    ]
    gates = {r.name: r.gate for r in results if r.gate}
    write_table(file, f"{ablation.source}: {ablation.title}. {title}", ["", *ablation.columns], rows, gates)


def _list(console: "Console") -> None:
    from namepin.agent.workflows.ablate import obstacles
    from namepin.evals.ablations import ablations

    for ablation in ablations().ablation:
        ready = sum(not obstacles(row.on(ablation.datasets[0])) for row in ablation.rows)
        needs = sorted({need for row in ablation.rows for need in row.needs})
        console.print(f"{ablation.name}  ({ablation.source})  {ablation.title}", soft_wrap=True)
        console.print(
            f"    on {', '.join(ablation.datasets)}; {ready} of {len(ablation.rows)} rows can run on this machine"
            + (f"; rows need {', '.join(needs)}" if needs else ""),
            soft_wrap=True,
        )


def _table(ablation: "Ablation", rows: "list[tuple[str, dict[str, Cell | None]]]") -> object:
    from rich.table import Table

    narrow = len(ablation.columns) > MOST_INTERVALS
    table = Table("", *(column.removesuffix(".f1").replace(".", " ") for column in ablation.columns))
    for column in table.columns[1:]:
        column.justify = "right"
    for name, cells in rows:
        table.add_row(name, *(_format(cells[column], narrow) for column in ablation.columns))
    return table


def _format(cell: "Cell | None", narrow: bool) -> str:
    if cell is None:
        return "not evaluated"
    if cell.value > 1:  # a count; all other values are fractions
        return f"{cell.value:g}"
    interval = (
        "" if narrow or cell.low is None or cell.high is None else f" ({100 * cell.low:.1f}-{100 * cell.high:.1f})"
    )
    return f"{100 * cell.value:.2f}{interval}"


def gate_table(report: "GateReport") -> object:
    """Figure 5 as a table."""
    from rich.table import Table

    title = f"expected calibration error {100 * report.error:.2f}% over {report.entities} entities with a right span"
    table = Table("entropy", "entities", "tagger", f"top {report.k}", "reranker", "tagger on those", caption=title)
    for column in table.columns[1:]:
        column.justify = "right"
    for b in report.bins:
        again = "-" if b.reranker is None else f"{100 * b.reranker:.1f} (n = {b.reranked})"
        before = "-" if b.tagger_on_those is None else f"{100 * b.tagger_on_those:.1f}"
        row = (f"{100 * b.tagger:.1f}", f"{100 * b.top:.1f}", again, before)
        table.add_row(f"{b.low:g}-{b.high:g}", str(b.count), *row)
    return table
