"""`namepin sweep`: thresholds and protocols over one recording."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from namepin.agent.cli.options import DatasetName, Ids, Knowledge, Profile, Set
from namepin.tools.errors import Exit, NamepinError

if TYPE_CHECKING:
    from namepin.evals.sweep import Point


def sweep(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A cassette; --fill makes it where it is missing.")],
    over: Annotated[
        list[str], typer.Option("--over", metavar="KEY=A,B", help="gate.gamma, gate.k, match.threshold, protocol, iou.")
    ],
    dataset: Annotated[DatasetName, typer.Option("--dataset", help="Which data set.")],
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Its folder.")],
    split: Annotated[str, typer.Option("--split", help="Which split.")] = "dev",
    fill: Annotated[bool, typer.Option("--fill", help="First record every call that the sweep needs.")] = False,
    profile: Profile = None,
    knowledge: Annotated[Knowledge, typer.Option("--knowledge", help="For --fill, as in eval.")] = Knowledge.off,
    ids: Ids = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the points; the same sweep again goes on.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with a plot an axis.")
    ] = None,
    set_: Set = None,
) -> int:
    """Score recorded posts under every combination of settings. Without --fill, no tool is built."""
    from rich.console import Console

    from namepin.agent.cli.checks import check_writable
    from namepin.agent.cli.progress import count_progress
    from namepin.agent.workflows.sweep import check_policies, idle_axes, recorded_ids, replayed_from
    from namepin.agent.workflows.sweep import fill as fill_in
    from namepin.evals import sweep as grids
    from namepin.evals.datasets.conll import read_ids
    from namepin.evals.run import load_dataset
    from namepin.graphs.recording.cassette import LINES
    from namepin.tools.base import digest, file_sha256

    for file in (json, html):
        check_writable(file)
    points = grids.grid(grids.axes(over))
    policies = grids.policies(points)
    check_policies(policies)
    whole = load_dataset(dataset.value, root, split)
    data = whole.only(read_ids(ids)) if ids else whole
    messages = Console(stderr=True)
    if fill:
        from namepin.agent.config.settings import load_settings
        from namepin.agent.workflows.predict import evaluated_pin
        from namepin.evals.run import recorded_knowledge

        settings = load_settings(profile, assignments=set_ or ())
        recorded = recorded_knowledge(root, split, whole) if knowledge is Knowledge.recorded else {}
        pin = evaluated_pin(settings, knowledge.value, recorded)
        lacking = len({gold.post.id for gold in data.posts} - recorded_ids(directory))
        with count_progress("filling", lacking + len(policies) * len(data.posts), messages) as done:
            fill_in(directory, data, pin, policies, done)
    kept = recorded_ids(directory)
    if not any(gold.post.id in kept for gold in data.posts):
        raise NamepinError("E401", "the cassette holds none of the posts", where=str(directory), mend="add --fill")
    data = data.only(kept & {gold.post.id for gold in data.posts})
    for line in idle_axes(directory, points[0]):
        messages.print(f"warning: {line}", highlight=False)
    source = digest([file_sha256(directory / LINES), data.sha256, sorted(gold.post.id for gold in data.posts)])
    found: list[grids.Point] = []
    with count_progress("replaying", len(policies) * len(kept), messages) as done:
        known = grids.known_points(json, source) if json else []
        for point in grids.sweep(data, points, replayed_from(directory, data, done), known):
            found.append(point)
            if json:
                result = grids.Sweep(source=source, dataset=data.title, points=found)
                json.write_text(result.model_dump_json(indent=1) + "\n", "utf-8")
    console = Console(highlight=False, markup=False)
    console.print(f"{data.title}\n{len(data.posts)} recorded posts")
    console.print(_table(found))
    if html:
        from namepin.evals.sweep_html import write_page

        write_page(html, data.title, found)
    return Exit.DONE


def _table(points: "list[Point]") -> object:
    from rich.table import Table

    keys = list(points[0].at)
    tasks = list(dict.fromkeys(task for point in points for task in point.f1))
    table = Table(*keys, *tasks)
    for column in table.columns:
        column.justify = "right"
    for point in points:
        cells = [
            f"{100 * f.value:.2f} ({100 * f.low:.1f}-{100 * f.high:.1f})" if (f := point.f1.get(task)) else "-"
            for task in tasks
        ]
        table.add_row(*point.at.values(), *cells)
    return table
