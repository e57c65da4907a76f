"""The report's plots, each an SVG text that scales with the page."""

import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from namepin.evals.scoring.curves import Bin
from namepin.evals.scoring.entropy_bins import GateReport
from namepin.evals.scoring.evaluate import Score
from namepin.evals.scoring.significance import Interval

BLUE, ORANGE, GREY = "#2563eb", "#ea580c", "#94a3b8"

# Text stays text, so that it can be searched and is small; ids do not depend on the run.
matplotlib.rcParams.update(
    {"svg.fonttype": "none", "svg.hashsalt": "namepin", "font.family": "sans-serif", "font.size": 9}
)


def _figure(width: float = 5, height: float = 3.2) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Figure) -> str:
    """The figure as an `<svg>` element without a fixed size, so that the page sets it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    return re.sub(r'(<svg[^>]*?) width="[^"]*"| height="[^"]*"', r"\1", text[text.index("<svg") :], count=2)


def type_bars(scores: Mapping[str, Score]) -> str:
    """F1 of every type as bars, with the number of gold entities."""
    names = sorted(scores, key=lambda name: scores[name].gold)
    figure, axes = _figure(height=0.8 + 0.22 * len(names))
    axes.barh(names, [100 * scores[name].f1 for name in names], color=BLUE)
    for row, name in enumerate(names):
        axes.text(
            100 * scores[name].f1 + 1, row, f"{100 * scores[name].f1:.1f}  (n = {scores[name].gold})", va="center"
        )
    axes.margins(y=0.5 / len(names))
    axes.set(xlim=(0, 125), xlabel="F1")
    axes.set_xticks(range(0, 101, 20))
    return _svg(figure)


def cause_bars(causes: Mapping[str, int]) -> str:
    """Numbers of right gold entities, and of those that each step lost."""
    figure, axes = _figure(height=0.8 + 0.3 * len(causes))
    names = list(causes)[::-1]
    axes.barh(names, [causes[name] for name in names], color=[BLUE if name == "right" else ORANGE for name in names])
    for row, name in enumerate(names):
        axes.text(causes[name], row, f" {causes[name]}", va="center")
    axes.set(xlabel="gold entities")
    axes.margins(x=0.12)
    return _svg(figure)


def reliability(bins: Sequence[Bin]) -> str:
    """Accuracy against confidence; the dashed line is perfect calibration."""
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], "--", color=GREY)
    _bins(axes, bins)
    axes.set(xlim=(0, 1.02), xlabel="confidence in the type")
    return _svg(figure)


def entropy_curve(bins: Sequence[Bin]) -> str:
    """Accuracy against the entropy that the gate uses (GEM, Figure 5)."""
    figure, axes = _figure()
    _bins(axes, bins)
    axes.set(xlabel="entropy (nats)")
    return _svg(figure)


def _bins(axes: Axes, bins: Sequence[Bin]) -> None:
    """Accuracy over the mean of each bin, with the number of entities in it."""
    axes.plot([b.mean for b in bins], [b.accuracy for b in bins], "o-", color=BLUE)
    for b in bins:
        at = (b.mean, b.accuracy)
        axes.annotate(str(b.count), at, xytext=(0, 6), textcoords="offset points", ha="center", size=7)
    axes.set(ylim=(0, 1.08), ylabel="accuracy")


def confusion(table: Mapping[str, Mapping[str, int]], labels: Sequence[str]) -> str:
    """Gold types down, predicted types across; rows add up to 1."""
    columns = [*labels, *sorted({predicted for row in table.values() for predicted in row} - set(labels))]
    counts = [[table.get(gold, {}).get(predicted, 0) for predicted in columns] for gold in labels]
    shares = [[n / (sum(row) or 1) for n in row] for row in counts]
    figure, axes = _figure(height=1.2 + 0.38 * len(labels))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for y, row in enumerate(counts):
        for x, n in enumerate(row):
            if n:
                axes.text(x, y, str(n), ha="center", va="center", color="white" if shares[y][x] > 0.5 else "black")
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="gold")
    return _svg(figure)


def curve(points: Sequence[tuple[float, float]], x: str, y: str) -> str:
    """A line through points with both axes from 0 to 1."""
    figure, axes = _figure()
    axes.plot(*zip(*points, strict=True), "-", color=BLUE)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel=x, ylabel=y)
    return _svg(figure)


def sweep_lines(by_task: Mapping[str, Sequence[tuple[float, Interval]]], x: str) -> str:
    """F1 of each task over one setting, with its 95% interval as a band."""
    figure, axes = _figure()
    for task, points in by_task.items():
        points = sorted(points, key=lambda point: point[0])
        at = [value for value, _ in points]
        axes.plot(at, [100 * f.value for _, f in points], "o-", label=task)
        axes.fill_between(at, [100 * f.low for _, f in points], [100 * f.high for _, f in points], alpha=0.15)
    axes.set(xlabel=x, ylabel="F1")
    axes.legend()
    return _svg(figure)


def gate_lines(report: GateReport) -> str:
    """Accuracy of the tagger, of its best K types and, if it ran, of the reranker, over entropy (GEM, Figure 5)."""
    figure, axes = _figure()
    middle = [(b.low + b.high) / 2 for b in report.bins]
    axes.plot(middle, [100 * b.tagger for b in report.bins], "o-", color=BLUE, label="tagger")
    axes.plot(middle, [100 * b.top for b in report.bins], "o--", color=GREY, label=f"tagger, top {report.k}")
    again = [(at, 100 * b.reranker) for at, b in zip(middle, report.bins, strict=True) if b.reranker is not None]
    if again:
        axes.plot(*zip(*again, strict=True), "s-", color=ORANGE, label="reranker")
    axes.set(xlabel="entropy (nats)", ylabel="accuracy", ylim=(0, 103))
    axes.legend()
    return _svg(figure)
