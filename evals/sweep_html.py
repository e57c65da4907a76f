"""A sweep as one HTML page that opens offline: a plot for each axis of numbers, and the table."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from evals import plots
from evals.sweep import Point

_HEAD = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,"><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 0 auto; padding: 1rem; overflow-x: auto; }}
svg {{ width: min(34rem, 100%); height: auto; display: block; }} td, th {{ padding: .2rem .7rem; text-align: right; }}
</style></head><body><h1>{title}</h1>
"""


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
    head = "".join(f"<th>{escape(name)}</th>" for name in (*first, *tasks))
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{escape(value)}</td>" for value in point.at.values())
        + "".join(f"<td>{100 * point.f1[task].value:.2f}</td>" for task in tasks)
        + "</tr>\n"
        for point in points
    )
    path.write_text("".join([*parts, f"<table><tr>{head}</tr>\n{rows}</table></body></html>\n"]), "utf-8")
