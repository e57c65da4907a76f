"""`namepin sweep`: thresholds and protocols over one recording."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from namepin.agent.cli.checks import check_writable
from namepin.agent.cli.console import results_console
from namepin.agent.cli.options import AllowOverlap, DatasetName, Ids, Knowledge, Profile, Set
from namepin.agent.cli.progress import count_progress, say_loading, warn
from namepin.tools.errors import Exit
from namepin.tools.files import file_name

if TYPE_CHECKING:
    from namepin.evals.sweep import Point


def sweep(
    over: Annotated[
        list[str], typer.Option("--over", metavar="KEY=A,B", help="gate.gamma, gate.k, match.threshold, protocol, iou.")
    ],
    dataset: Annotated[DatasetName, typer.Option("--dataset", help="Which data set.")],
    root: Annotated[Path, typer.Option("--root", metavar="DIR", help="Its folder.")],
    directory: Annotated[
        Path | None,
        typer.Argument(metavar="[DIR]", help="Recorded calls to use; default: records its own in out/sweep."),
    ] = None,
    split: Annotated[str, typer.Option("--split", help="Which split.")] = "dev",
    fill: Annotated[bool, typer.Option("--fill", help="First record every call that the sweep needs.")] = False,
    profile: Profile = None,
    knowledge: Annotated[Knowledge, typer.Option("--knowledge", help="For --fill, as in eval.")] = Knowledge.off,
    ids: Ids = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the points; the same sweep resumes from it.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page with one plot per axis.")
    ] = None,
    allow_overlap: AllowOverlap = False,
    set_: Set = None,
) -> int:
    """Score posts under every combination of settings. Each call to a tool is made once and recorded.

    With DIR, a folder of recorded calls, and without --fill, no tool is built.
    """
    from rich.console import Console

    from namepin.agent.config.settings import load_settings
    from namepin.agent.workflows import sweep as workflow
    from namepin.agent.workflows.evaluate import profile_pin, read_posts
    from namepin.agent.workflows.overlap import checked_overlap
    from namepin.evals import sweep as grids

    for file in (json, html):
        check_writable(file)
    if directory is None:
        named = "-".join([profile or "default", dataset.value, split, *(set_ or ())])
        directory, fill = Path("out") / "sweep" / file_name(named), True
    points = grids.grid(grids.axes(over))
    policies = grids.policies(points)
    workflow.check_policies(policies)
    settings = load_settings(profile, assignments=set_ or ()) if fill else None
    posts = read_posts(dataset.value, root, split, ids)
    messages = Console(stderr=True)
    if settings:
        checked_overlap(settings.dump(), posts.data, allow=allow_overlap)  # before the calls are made
        say_loading(f"the tools of profile {settings.profile}")
        pin = profile_pin(posts, settings, knowledge.value)
        calls = workflow.lacking(directory, posts.data) + len(policies) * len(posts.data.posts)
        with count_progress("filling", calls, messages) as done:
            workflow.fill(directory, posts.data, pin, policies, done)
    data = workflow.recorded_posts(directory, posts.data)
    overlap = workflow.recorded_overlap(directory, data, allow=allow_overlap)
    warn(overlap.warning)
    for line in workflow.idle_axes(directory, points[0]):
        messages.print(f"warning: {line}", highlight=False)
    say_loading("the graph")
    replays = len(policies) * len(workflow.recorded_ids(directory))
    with count_progress("replaying", replays, messages) as done:
        found = workflow.score_points(directory, data, points, json, done, overlap)
    console = results_console()
    mark = f", {overlap.mark}" if overlap.mark else ""
    console.print(f"{data.title}\n{len(data.posts)} recorded posts{mark}")
    console.print(_table(found))
    if html:
        from namepin.evals.sweep_html import write_page

        write_page(html, data.title + mark, found)
    return Exit.DONE


def _table(points: "list[Point]") -> object:
    from rich.table import Table

    keys = list(points[0].at)
    tasks = list(dict.fromkeys(task for point in points for task in point.f1))
    asked = any(point.asked for point in points)
    table = Table(*keys, *(["posts asked"] * asked), *tasks)
    for column in table.columns:
        column.justify = "right"
    for point in points:
        cells = [
            f"{100 * f.value:.2f} ({100 * f.low:.1f}-{100 * f.high:.1f})" if (f := point.f1.get(task)) else "-"
            for task in tasks
        ]
        cost = [f"{100 * (point.asked or 0):.1f}%"] * asked
        table.add_row(*point.at.values(), *cost, *cells)
    return table
