"""The report as Markdown, for a pull request or a notebook: the numbers of the HTML page, without plots and posts."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from namepin.evals.report.console import NAMES
from namepin.evals.report.full import FullReport, score_of
from namepin.evals.report.paper_figures import beside
from namepin.evals.scoring.evaluate import TASKS
from namepin.evals.scoring.predictions import Predictions
from namepin.tools.errors import NamepinError


def write_markdown(path: Path, predictions: Predictions, report: FullReport, about: str) -> None:
    """Write the report.

    Raises:
        NamepinError: E500 when the file cannot be written.
    """
    try:
        path.write_text(markdown(predictions, report, about), "utf-8")
    except OSError as error:
        raise NamepinError("E500", f"cannot write {str(path)!r}: {error.strerror}") from error


def markdown(predictions: Predictions, report: FullReport, about: str) -> str:
    """The report's sections, without empty ones."""
    found = report.attribution
    parts = [f"# {_cell(report.title)}", f"{_cell(about)}; protocol {report.protocol}, IoU {report.iou:g}"]
    parts.append(_table(("task", "P", "R", "F1", "95%", "correct", "predicted", "gold"), _scores(report)))
    parts += [f"- {_cell(note)}" for note in report.notes]
    repairs = [
        (step, found.causes[step], _percent(found.repairs[step].alone), _percent(found.repairs[step].with_later))
        for step in found.steps
    ]
    head: tuple[str, ...] = ("lost at", "gold entities", f"{NAMES[found.task]} F1 if repaired", "and all later ones")
    parts += ["## Where it is lost", _table(head, repairs)]
    if report.comparison:
        compared = [
            (NAMES[c.task], _percent(c.first), _percent(c.second), f"{100 * c.difference.value:+.2f}",
             f"{100 * c.difference.low:+.2f} to {100 * c.difference.high:+.2f}", f"{c.p_value:.4f}", len(c.differing))
            for c in report.comparison
        ]  # fmt: skip
        head = ("task", "first", "second", "difference", "95%", "p", "posts that differ")
        parts += ["## Against the second system", _table(head, compared)]
    if report.by_type_of:
        finest = "fine.mner" if "fine.mner" in report.by_type_of else "mner"
        types = [
            (label, _percent(s.precision), _percent(s.recall), _percent(s.f1), s.gold)
            for label, s in report.by_type_of.get(finest, {}).items()
        ]
        parts += [f"## By type, {NAMES[finest]}", _table(("type", "P", "R", "F1", "gold"), types)]
    if report.mistaken:
        pairs = [(pair.gold, pair.said, pair.count, pair.of) for pair in report.mistaken]
        parts += ["## Fine types taken for others", _table(("type", "taken for", "times", "of right spans"), pairs)]
    if predictions.tool_ms:
        costs = [
            (tool, f"{ms / report.n_posts:.1f}", *predictions.tool_tokens.get(tool, ("-", "-")))
            for tool, ms in sorted(predictions.tool_ms.items(), key=lambda pair: -pair[1])
        ]
        parts += ["## Cost by tool", _table(("tool", "ms per post", "prompt tokens", "completion tokens"), costs)]
    papers = []
    for row in beside(report):
        obstacles = "; ".join(row.obstacles(report))
        for task, value in row.f1.items():
            ours = score_of(report, task)
            verdict = f"no: {obstacles}" if obstacles else "yes"
            papers.append((row.system, NAMES[task], f"{value:.2f}", _percent(ours.f1) if ours else "-", verdict))
    if papers:
        head = ("system", "task", "published F1", "ours", "comparable?")
        parts += ["## Beside the papers", _table(head, papers)]
    if report.problems:
        parts += [f"{len(report.problems)} problems of the input: see `--json`."]
    return "\n\n".join(parts) + "\n"


def _scores(report: FullReport) -> Iterable[Sequence[object]]:
    for task in TASKS:
        score, interval = score_of(report, task), report.intervals.get(task)
        if score and interval:
            between = f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"
            values = (_percent(score.precision), _percent(score.recall), _percent(score.f1), between)
            yield NAMES[task], *values, score.correct, score.predicted, score.gold
        elif task in ("mner", "eeg", "gmner"):
            yield NAMES[task], "not evaluated", *[""] * 6


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(_cell(str(cell)) for cell in line) + " |" for line in lines)


def _cell(text: str) -> str:
    """Text that cannot end its table cell or open a tag."""
    return " ".join(text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").split())


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"
