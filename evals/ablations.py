"""The papers' tables and figures as definitions that can be run: `ablations.toml`, typed."""

import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, ConfigDict

from namepin.evals.report.full import FullReport
from namepin.evals.scoring.evaluate import TASKS
from namepin.tools.errors import NamepinError

_FILE = Path(__file__).with_name("ablations.toml")


class Row(BaseModel):
    """One row of a table: a run, and how it is scored.

    Attributes:
        name: the row's name in the paper.
        profile: the profile that runs.
        graph: the graph that it runs in.
        datasets: the data sets of the row; empty for all data sets of the table.
        set: `--set` overrides; `{dataset}` stands for the data set's name, `{root}` for its folder. A value that is a
            key of `Ablations.train` means weights that the user trains.
        knowledge: see `namepin eval`.
        visual: `none` for the papers' "-None" rows.
        iou: smallest IoU of a correct region.
        predictions: JSONL of another system; then no profile is run.
        needs: roles that the profile must fill, and "pictures" or "masks" that the data must have.
        note: how this row differs from the paper's.
        source: its place in a paper; that of its table where it is not set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    profile: str = "gem"
    graph: str = "gem"
    datasets: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    knowledge: Literal["off", "recorded", "live"] = "recorded"
    visual: Literal["predicted", "none"] = "predicted"
    iou: float = 0.5
    predictions: str | None = None
    needs: tuple[str, ...] = ()
    note: str = ""
    source: str = ""

    def without_name(self) -> "Row":
        """The fields of a row that determine its numbers."""
        return self.model_copy(update={"name": "", "note": "", "source": ""})

    def on(self, dataset: str, profile: str | None = None, *, root: str = "DIR", below: Sequence[str] = ()) -> "Row":
        """The row for one data set.

        Args:
            dataset: the data set's name.
            profile: replaces the row's own.
            root: the data set's folder.
            below: `--set` overrides of the user's, which the row's own overrule.
        """
        own = (assignment.replace("{dataset}", dataset).replace("{root}", root) for assignment in self.set)
        assignments = (*below, *own)
        return self.model_copy(update={"set": assignments, "profile": profile or self.profile})


class Ablation(BaseModel):
    """One table or figure.

    Attributes:
        name: its name on the command line.
        source: its place in the paper.
        title: what it compares.
        columns: dotted paths into the JSON of `namepin eval`.
        datasets: the data sets that it is defined on.
        gate: also show accuracy by entropy.
        of: other tables, whose rows come first; a run that is in several tables is listed once.
        rows: its own rows.
        theirs: systems of others, whose published figures stand below the rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    source: str
    title: str
    columns: tuple[str, ...]
    datasets: tuple[str, ...]
    gate: bool = False
    of: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    theirs: tuple[str, ...] = ()


class Ablations(BaseModel):
    """All definitions; `train` maps paths of weights to the commands that train them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    train: Mapping[str, str]
    ablation: tuple[Ablation, ...]


class Cell(BaseModel):
    """A fraction, with its 95% interval where it is an F1."""

    model_config = ConfigDict(frozen=True)
    value: float
    low: float | None = None
    high: float | None = None


@cache
def ablations() -> Ablations:
    """Every definition of `ablations.toml`, with the rows of the tables that it joins."""
    read = Ablations.model_validate(tomllib.loads(_FILE.read_text("utf-8")))
    by_name = {ablation.name: ablation for ablation in read.ablation}
    return read.model_copy(update={"ablation": tuple(_join(ablation, by_name) for ablation in read.ablation)})


def _join(ablation: Ablation, by_name: Mapping[str, Ablation]) -> Ablation:
    runs: dict[Row, Row] = {}
    tables = [*(by_name[name] for name in ablation.of), ablation]
    for row in (row.model_copy(update={"source": row.source or one.source}) for one in tables for row in one.rows):
        runs.setdefault(row.without_name(), row)
    return ablation.model_copy(update={"rows": tuple(runs.values())})


def ablation_named(name: str) -> Ablation:
    """One definition.

    Raises:
        NamepinError: E139 for an unknown name.
    """
    for ablation in ablations().ablation:
        if ablation.name == name:
            return ablation
    names = [ablation.name for ablation in ablations().ablation]
    near = get_close_matches(name, names, n=1)
    mend = f"did you mean {near[0]}?" if near else f"ablations: {', '.join(names)}"
    raise NamepinError("E139", f"unknown ablation {name!r}", mend=mend)


def value_at(report: Any, column: str) -> float | None:
    """The value at a dotted path in a report's JSON; None where it was not evaluated."""
    for key in column.split("."):
        report = report.get(key) if report is not None else None
    return cast(float | None, report)


def cell(report: FullReport, column: str) -> Cell | None:
    """The report's value at a dotted path; None where it was not evaluated."""
    value = value_at(report.model_dump(mode="json"), column)
    task = column.removesuffix(".f1")
    if value is None or task == column or task not in TASKS:
        return None if value is None else Cell(value=value)
    interval = report.intervals[task]
    return Cell(value=value, low=interval.low, high=interval.high)
