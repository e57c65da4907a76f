"""`namepin ablate`: the papers' tables, row by row."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from namepin.agent.cli.checks import check_writable
from namepin.agent.cli.console import results_console
from namepin.agent.cli.options import AllowOverlap, DatasetName, Profile, Set
from namepin.agent.cli.progress import count_progress, say_loading, warn
from namepin.tools.errors import Exit, NamepinError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from namepin.agent.workflows.ablate import RowResult
    from namepin.evals.ablations import Ablation, Cell
    from namepin.evals.report.paper_figures import PublishedRow
    from namepin.evals.scoring.entropy_bins import GateReport


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
    set_: Set = None,
    list_: Annotated[bool, typer.Option("--list", help="List every definition with what it needs.")] = False,
) -> int:
    """Run a table of the papers. A row that cannot run here shows its command and the reason."""
    from rich.console import Console

    console = results_console()
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
        load_settings(profile, assignments=set_ or ())  # reports errors before anything is loaded
    data = load_dataset(dataset.value, root, split)
    from namepin.agent.workflows.ablate import Bench, write_json
    from namepin.evals.report.paper_figures import of_systems

    bench = Bench(data, root, profile, save, set=set_ or (), allow_overlap=allow_overlap)
    for line in dict.fromkeys(overlap.warning for overlap in bench.overlaps(ablation)):
        warn(line)
    say_loading("the tools of the rows that can run here")
    with count_progress("posts", bench.posts_to_run(ablation), Console(stderr=True)) as done:
        bench.done = lambda _: done()
        results = list(bench.run(ablation))
    theirs = of_systems(ablation.theirs, data.name)
    _show(ablation, data.title, results, theirs, console)
    if json:
        write_json(json, ablation, data, results)
    if html:
        _write_html(html, ablation, data.title, results, theirs)
    return Exit.DONE


def _show(
    ablation: "Ablation",
    title: str,
    results: "Sequence[RowResult]",
    theirs: "Sequence[PublishedRow]",
    console: "Console",
) -> None:
    """The table of all rows, then notes, then the commands that would fill the rows that did not run."""
    console.print(f"{ablation.source}: {ablation.title}\n{title}")
    console.print(_table(ablation, results, theirs))
    for row in theirs:
        console.print(f"{row.system}, theirs: {row.source}; {row.note}", soft_wrap=True)
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
            console.print("  these commands fill it:", soft_wrap=True)
            for command in (*result.before, result.command):
                console.print(f"  {command}", soft_wrap=True)


HEAD = ("row", "figure", "paper", "ours", "difference", "n", "seed", "release")


def _lines(ablation: "Ablation", result: "RowResult") -> "Iterator[tuple[str, ...]]":
    """A row's lines of the table, one per column of the ablation; columns that the paper and we lack are left out."""
    seed = ", ".join(map(str, result.seeds)) or "-"
    theirs = "" if result.paper_release in ("", result.release) else f"; paper: {result.paper_release}"
    first = result.name
    for column in ablation.columns:
        ours, paper = result.cells.get(column), result.paper.get(column)
        if not result.cells and paper is None:
            continue
        cell = _format(ours) if result.cells else "not run"
        gap = result.difference(column)
        n, run_seed = (str(result.n), seed) if result.cells else ("-", "-")
        difference = "-" if gap is None else f"{100 * gap:+.2f}"
        figure = column.removesuffix(".f1").replace(".", " ")
        printed = "-" if paper is None else f"{100 * paper:.2f}"
        yield (
            first,
            figure,
            printed,
            cell + ("*" if result.mark else ""),
            difference,
            n,
            run_seed,
            result.release + theirs,
        )
        first = ""
    if first:
        yield first, "-", "-", "not run", "-", "-", "-", result.release


def _their_lines(ablation: "Ablation", row: "PublishedRow") -> "Iterator[tuple[str, ...]]":
    """The lines of another system, one per column that it reports."""
    figures = [(column.removesuffix(".f1").replace(".", " "), row.figure(column)) for column in ablation.columns]
    printed = [(name, f"{100 * value:.2f}") for name, value in figures if value is not None] or [("-", "-")]
    for at, (name, value) in enumerate(printed):
        yield "" if at else f"{row.system}, theirs", name, value, "-", "-", "-", "-", row.release


def _write_html(
    file: Path,
    ablation: "Ablation",
    title: str,
    results: "Sequence[RowResult]",
    theirs: "Sequence[PublishedRow]",
) -> None:
    from namepin.evals.sweep_html import write_table

    rows = [list(line) for result in results for line in _lines(ablation, result)]
    rows += [list(line) for row in theirs for line in _their_lines(ablation, row)]
    gates = {r.name: r.gate for r in results if r.gate}
    write_table(file, f"{ablation.source}: {ablation.title}. {title}", HEAD, rows, gates)


def _list(console: "Console") -> None:
    from namepin.agent.workflows.ablate import obstacles
    from namepin.evals.ablations import ablations

    rows = [("name", "ready", "data", "needs", "paper", "varies")]
    for ablation in ablations().ablation:
        ready = sum(not obstacles(row.on(ablation.datasets[0])) for row in ablation.rows)
        needs = ", ".join(sorted({need for row in ablation.rows for need in row.needs}))
        data, counted = ", ".join(ablation.datasets), f"{ready} of {len(ablation.rows)} rows"
        rows.append((ablation.name, counted, data, needs, ablation.source, ablation.title))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if console.is_terminal:
        from rich.table import Table

        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*row)
        console.print(table)
    else:  # one line per definition, for other programs
        for row in rows:
            line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            console.print(line.rstrip(), soft_wrap=True)


def _table(ablation: "Ablation", results: "Sequence[RowResult]", theirs: "Sequence[PublishedRow]") -> object:
    from rich.table import Table

    table = Table(
        *HEAD, caption="* on posts that the weights were trained on" if any(r.mark for r in results) else None
    )
    for column in table.columns:
        column.overflow = "fold"
    for column in table.columns[2:7]:
        column.justify = "right"
    for result in results:
        for line in _lines(ablation, result):
            table.add_row(*line)
    for row in theirs:
        for line in _their_lines(ablation, row):
            table.add_row(*line)
    return table


def _format(cell: "Cell | None") -> str:
    if cell is None:
        return "not evaluated"
    if cell.value > 1:  # a count; all other values are fractions
        return f"{cell.value:g}"
    interval = "" if cell.low is None or cell.high is None else f" ({100 * cell.low:.1f}-{100 * cell.high:.1f})"
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
