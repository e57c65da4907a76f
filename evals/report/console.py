"""Reports as tables on the console."""

from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from namepin.evals.datasets.check import Check
from namepin.evals.report.full import FullReport
from namepin.evals.scoring.agreement import Agreement
from namepin.evals.scoring.evaluate import Report, Score
from namepin.evals.scoring.significance import Interval, Spread
from namepin.evals.scoring.top_n import TopN

NAMES = {
    "span": "spans",
    "mner": "MNER",
    "eeg": "EEG",
    "gmner": "GMNER",
    "ees": "EES",
    "smner": "SMNER",
    "fine.mner": "MNER 51 types",
    "fine.gmner": "GMNER 51 types",
    "fine.smner": "SMNER 51 types",
    "coarse4.mner": "MNER 4 types",
    "coarse4.gmner": "GMNER 4 types",
}
SHOWN_PROBLEMS = 8
SHOWN_MISTAKEN = 12
ROWS_OF_CHECK = {
    "posts": "posts",
    "tokens": "tokens",
    "entities": "entities",
    "groundable": "in the picture",
    "boxes": "boxes",
    "masks": "masks",
    "multi_box": "with several boxes",
    "small": "below 1/50 of the picture",
    "duplicates": "repeated words in a post",
    "without_entities": "posts without entities",
    "repeated_texts": "posts with a repeated text",
    "missing_images": "missing pictures",
}


def show(report: FullReport, console: Console, subtitle: str = "") -> None:
    """Print the scores, the types, the causes of lost F1, groundability and the problems of the input."""
    console.print(f"[bold]{report.title}[/bold]")
    console.print(f"protocol {report.protocol}, IoU {report.iou:g}" + (f", {subtitle}" if subtitle else ""))
    tasks = _tasks(report)
    intervals = {NAMES[name]: interval for name, interval in report.intervals.items()}
    console.print(_scores("task", {NAMES[name]: score for name, score in tasks.items()}, intervals))
    finest = "fine.mner" if "fine.mner" in report.by_type_of else "mner"
    if finest in report.by_type_of:
        console.print(
            _scores("51 types, MNER" if finest == "fine.mner" else "type, MNER", dict(report.by_type_of[finest]))
        )
    _show_mistaken(report, console)
    _show_loss(report, console)
    _show_causes(report, console)
    if report.groundability:
        g = report.groundability
        console.print(
            f"in the picture? {_percent(g.accuracy)} right where the span is: {g.both} both, {g.neither} neither, "
            f"{g.gold_only} only gold, {g.predicted_only} only predicted"
        )
    if report.regions:
        r = report.regions
        small = (
            f"; {_percent(r.small.precision_at_iou)} of the {r.small.entities} small ones" if r.small.entities else ""
        )
        console.print(
            f"boxes of the {r.entities} found entities that are in the picture: mean IoU {r.mean_iou:.3f}, "
            f"{_percent(r.precision_at_iou)} reach IoU {report.iou:g}{small}"
        )
    for note in report.notes:
        console.print(f"[dim]{note}[/dim]")
    _show_problems(report, console)


def _tasks(report: Report) -> dict[str, Score | None]:
    """The tasks of this data set, in the order of `NAMES`."""
    fine, coarse4 = report.fine or {}, report.coarse4 or {}
    if report.dataset != "smner":
        fine = {name: score for name, score in fine.items() if name != "smner"}
    nested = {f"fine.{k}": v for k, v in fine.items()} | {f"coarse4.{k}": v for k, v in coarse4.items()}
    own = {"span": report.span, "mner": report.mner, "eeg": report.eeg, "gmner": report.gmner}
    masks = {"ees": report.ees, "smner": report.smner} if report.dataset == "smner" or report.smner else {}
    return own | masks | nested


def _scores(head: str, rows: Mapping[str, Score | None], intervals: Mapping[str, Interval] | None = None) -> Table:
    columns = ["P", "R", "F1", *(["95% of F1"] if intervals else []), "correct", "predicted", "gold"]
    table = Table(head, *columns)
    for column in table.columns[1:]:
        column.justify = "right"
    for name, score in rows.items():
        if score is None:
            table.add_row(name, *["-"] * len(columns))
            continue
        fractions = [_percent(value) for value in (score.precision, score.recall, score.f1)]
        if intervals:
            fractions.append(f"{100 * intervals[name].low:.1f}-{100 * intervals[name].high:.1f}")
        table.add_row(name, *fractions, str(score.correct), str(score.predicted), str(score.gold))
    return table


def _show_mistaken(report: FullReport, console: Console) -> None:
    if not report.mistaken:
        return
    table = Table("51 types", "taken for", "times", "of right spans")
    for column in table.columns[2:]:
        column.justify = "right"
    for pair in report.mistaken[:SHOWN_MISTAKEN]:
        table.add_row(pair.gold, pair.said, str(pair.count), str(pair.of))
    console.print(table)
    if len(report.mistaken) > SHOWN_MISTAKEN:
        console.print(f"[dim]{len(report.mistaken) - SHOWN_MISTAKEN} more pairs: see --md or --json[/dim]")


def _show_loss(report: Report, console: Console) -> None:
    if not report.loss:
        return
    loss = report.loss
    table = Table("F1 lost by", "points", "entities")
    table.columns[1].justify = "right"
    table.add_row("span", _percent(loss.span), f"{loss.missed} missed, {loss.extra} extra")
    coarse = "coarse type" if report.fine else "type"
    table.add_row(f"right span, wrong {coarse}", _percent(loss.coarse), str(loss.wrong_coarse))
    if loss.fine is not None:
        table.add_row("right coarse, wrong fine type", _percent(loss.fine), str(loss.wrong_fine))
    console.print(table)


def _show_causes(report: FullReport, console: Console) -> None:
    found = report.attribution
    title = f"{NAMES[found.task]} lost at" if found.task in NAMES else "lost at"
    table = Table(title, "gold entities", "F1 if repaired", "and all later steps")
    for column in table.columns[1:]:
        column.justify = "right"
    for step in found.steps:
        repair = found.repairs[step]
        table.add_row(step, str(found.causes[step]), _percent(repair.alone), _percent(repair.with_later))
    console.print(table)
    for comparison in report.comparison or ():
        d = comparison.difference
        console.print(
            f"{NAMES[comparison.task]}: {_percent(comparison.second)} against {_percent(comparison.first)}, "
            f"{100 * d.value:+.2f} ({100 * d.low:+.2f} to {100 * d.high:+.2f}), p = {comparison.p_value:.4f}, "
            f"{len(comparison.differing)} posts differ"
        )


def _show_problems(report: Report, console: Console) -> None:
    if report.duplicates:
        console.print(f"{report.duplicates} predictions repeat a span of their post")
    by_code = Counter(problem["code"] for problem in report.problems)
    for code, number in sorted(by_code.items()):
        console.print(f"[yellow]{code}: {number} problem(s)[/yellow]")
    for problem in report.problems[:SHOWN_PROBLEMS]:
        console.print(f"  {problem['code']} {problem['where']}: {problem['what']}", markup=False, highlight=False)
    if len(report.problems) > SHOWN_PROBLEMS:
        console.print(f"  ... and {len(report.problems) - SHOWN_PROBLEMS} more: see --json")


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def show_spreads(title: str, spreads: Mapping[str, Spread], console: Console) -> None:
    """Print F1 over runs of several seeds, in percent."""
    console.print(f"[bold]{title}[/bold]")
    table = Table("F1", "mean", "deviation", "runs")
    for column in table.columns[1:]:
        column.justify = "right"
    for task, spread in spreads.items():
        deviation = "-" if spread.deviation is None else _percent(spread.deviation)
        table.add_row(NAMES[task], _percent(spread.mean), deviation, ", ".join(map(_percent, spread.values)))
    console.print(table)


def show_check(check: Check, console: Console) -> None:
    """Print a data set's numbers by split, the overlap of its splits, and its problems."""
    console.print(f"[bold]{check.dataset}[/bold] in {check.root}", highlight=False)
    for title in check.titles.values():
        console.print(f"  {title}", highlight=False)
    table = Table("", *check.splits)
    for column in table.columns[1:]:
        column.justify = "right"
    for row, name in ROWS_OF_CHECK.items():
        values = [getattr(split, row) for split in check.splits.values()]
        table.add_row(name, *("-" if value is None else f"{value:,}" for value in values))
    for field in ("by_type", "by_fine_type"):
        labels = dict.fromkeys(label for split in check.splits.values() for label in getattr(split, field))
        if labels:
            table.add_section()
        for label in labels:
            table.add_row(label, *(f"{getattr(split, field).get(label, 0):,}" for split in check.splits.values()))
    console.print(table)
    for overlap in check.overlaps:
        console.print(f"{' and '.join(overlap.splits)} share {overlap.ids} ids and {overlap.texts} texts")
    for problem in check.problems:
        console.print(f"{problem['code']} {problem['where']}: {problem['what']}", markup=False, highlight=False)
    console.print(f"{len(check.problems)} problem(s)" if check.problems else "no problems")


def show_agreement(result: Agreement, console: Console) -> None:
    """Print the agreement of two annotators."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("regions", "number", "Dice", "IoU"):
        table.add_column(title, justify="left" if title == "regions" else "right")
    for name, overlap in (("paired", result.paired), ("all, 0 for one alone", result.all)):
        table.add_row(name, str(overlap.regions), f"{overlap.dice:.3f}", f"{overlap.iou:.3f}")
    console.print(table)
    console.print(f"{result.posts} posts in common; {result.consistent} pairs have IoU > 0.5")
    if result.kappa is not None:
        console.print(f"Fleiss' kappa {result.kappa:.3f} over {result.items} items (drawn here, or not drawn)")
    else:
        console.print("no Fleiss' kappa: it needs the posts' entities (--root, --split), and answers of both kinds")
    for where, posts in result.only.items():
        console.print(f"{len(posts)} posts only in {where}: {', '.join(posts[:SHOWN_PROBLEMS])}")
    for problem in result.problems[:SHOWN_PROBLEMS]:
        console.print(f"! {problem}", style="yellow", markup=False)


def show_top_n(result: TopN, console: Console) -> None:
    """Print the row of Table II."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for n in result.precision:
        table.add_column(f"Top-{n}", justify="right")
    table.add_row(*(_percent(value) for value in result.precision.values()))
    console.print(table)
    console.print(f"{result.entities} entities in the picture, IoU {result.iou:g}; {result.without} without any box")
