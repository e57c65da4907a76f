"""Published numbers beside ours, each with the reasons why the two cannot be compared."""

import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, Field

from namepin.evals.report.full import FullReport


class PublishedRow(BaseModel):
    """One system's row of a paper's table, in percent.

    Attributes:
        system: its name.
        row: the name of the row that reproduces it, where that is another.
        source: where the figures stand.
        dataset: the data set, as `--dataset` calls it.
        release: the release of the data.
        protocol: the counting rules, or "not stated".
        main: whether it stands beside every evaluation of its data set.
        note: what else keeps it from being compared.
        f1: F1 by task.
        more: other figures, by their dotted path in a report.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    system: str
    row: str = ""
    source: str
    dataset: str
    release: str
    protocol: str
    main: bool = False
    note: str = ""
    f1: dict[str, float]
    more: dict[str, float] = Field(default_factory=dict)

    def figure(self, column: str) -> float | None:
        """The figure of a column of `namepin ablate`, as a fraction; None where the paper has none."""
        percent = self.more.get(column)
        if percent is None and column.endswith(".f1"):
            percent = self.f1.get(column.removesuffix(".f1"))
        return None if percent is None else percent / 100

    def obstacles(self, report: FullReport) -> list[str]:
        """Why this row is not comparable with a report; empty where it is."""
        found = []
        if self.release != report.release:
            found.append(f"theirs is on {self.release}, ours on {report.release}")
        if self.protocol == "not stated":
            found.append("their counting rules are not stated")
        elif self.protocol != report.protocol:
            found.append(f"counted by protocol {self.protocol}, ours by {report.protocol}")
        if report.iou != 0.5:
            found.append(f"theirs at IoU 0.5, ours at {report.iou:g}")
        return found + ([self.note] if self.note else [])


@cache
def published_figures() -> tuple[PublishedRow, ...]:
    """Every row of `published.toml`."""
    table = tomllib.loads(files("namepin.evals").joinpath("published.toml").read_text("utf-8"))
    return tuple(PublishedRow.model_validate(row) for row in table["result"])


def beside(report: FullReport) -> list[PublishedRow]:
    """The main rows on the report's data set."""
    return [row for row in published_figures() if row.dataset == report.dataset and row.main]


def of_systems(names: Sequence[str], dataset: str) -> list[PublishedRow]:
    """The rows of these systems on a data set, in the order of the names."""
    return [row for name in names for row in published_figures() if (row.system, row.dataset) == (name, dataset)]


def published_row(source: str, name: str, dataset: str) -> PublishedRow | None:
    """What a paper prints for a row of an ablation; None where it prints nothing.

    Args:
        source: the row's place in the paper; further words may follow the table.
        name: the row's name.
        dataset: the data set.
    """
    for row in published_figures():
        if row.dataset == dataset and (row.row or row.system) == name and source.split(";")[0] == row.source:
            return row
    return None
