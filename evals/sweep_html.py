"""A sweep, or a table of ablations, as one HTML page that opens offline."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from namepin.evals.report import plots
from namepin.evals.scoring.entropy_bins import GateReport
from namepin.evals.sweep import Point

_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,"><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; overflow-x: auto; }}
svg {{ width: min(34rem, 100%); height: auto; display: block; }} td, th {{ padding: .2rem .7rem; text-align: right; }}
td:first-child, th:first-child {{ text-align: left; }}
</style></head><body><h1>{title}</h1>
"""


_END = "</body></html>\n"


def write_page(path: Path, title: str, points: Sequence[Point]) -> None:
    """Write the page; an axis is plotted at the first value of each other axis."""
    first, tasks = points[0].at, list(points[0].f1)
    parts = [_HEAD.format(title=escape(title))]
    for key in first:
        others = {name: value for name, value in first.items() if name != key}
        line = [p for p in points if all(p.at[name] == value for name, value in others.items())]
        if len(line) > 1 and key != "protocol":
            fixed = ", ".join(f"{name} = {value}" for name, value in others.items())
            parts.append(f"<h2>{escape(key)}{escape(f' ({fixed})' if fixed else '')}</h2>")
            by_task = {task: [(float(p.at[key]), p.f1[task]) for p in line] for task in tasks}
            parts.append(plots.sweep_lines(by_task, key))
    rows = [
        [*point.at.values(), *(f"{100 * point.f1[task].value:.2f}" if task in point.f1 else "-" for task in tasks)]
        for point in points
    ]
    parts.append(_table([*first, *tasks], rows))
    path.write_text("".join([*parts, _END]), "utf-8")


def write_table(
    path: Path, title: str, head: Sequence[str], rows: Sequence[Sequence[str]], gates: Mapping[str, GateReport]
) -> None:
    """Write a table of ablations, optionally with accuracy by entropy.

    Args:
        path: the file.
        title: the comparison and its data.
        head: names of the columns.
        rows: cells of each row as text.
        gates: name of a row -> its gate report.
    """
    parts = [_HEAD.format(title=escape(title)), _table(head, rows)]
    for name, report in gates.items():
        parts += [f"<h2>{escape(name)}</h2>", plots.gate_lines(report)]
        parts.append(f"<p>expected calibration error {100 * report.error:.2f}%, {report.entities} entities</p>")
    path.write_text("".join([*parts, _END]), "utf-8")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = ("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows)
    return f"<table><tr>{top}</tr>\n{''.join(body)}</table>"
