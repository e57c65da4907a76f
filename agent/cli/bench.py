"""`namepin bench`: speed on this machine, as ratios to baselines measured in the same run."""

from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from namepin.agent.cli.console import results_console
from namepin.tools.errors import Exit


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Benches to run; default: all.")
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
) -> int:
    """Measure speed and memory against stated baselines. A missed goal is shown but is not a failure."""
    from namepin.agent.bench.registry import BENCHES, check_names, run
    from namepin.agent.cli.checks import check_writable
    from namepin.agent.cli.progress import doing

    check_names(names or [])
    check_writable(json)

    with doing(f"running {', '.join(names or BENCHES)}"):
        report = run(names or [])
    from rich.table import Table

    console = results_console()
    for name, result in report["benches"].items():
        console.print(f"{name}: {result['about']}", style="bold")
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="dim")
        table.add_column(justify="right")
        for figure, value in result["figures"].items():
            table.add_row(figure, f"{value:.4g}")
        console.print(table)
        for goal in result["goals"]:
            console.print(f"{'met' if goal['met'] else 'MISSED'}: {goal['goal']}")
        console.print()
    console.print(" · ".join(f"{key} {value}" for key, value in report["machine"].items()), style="dim")
    if json:
        json.write_text(dumps(report, indent=1) + "\n", "utf-8")
    return Exit.DONE
