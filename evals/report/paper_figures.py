"""Published numbers beside ours, each with the reasons why the two cannot be compared."""

import tomllib
from functools import cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict

from namepin.evals.report.full import FullReport


class Published(BaseModel):
    """One system's row of a paper's table: F1 in percent by task."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    system: str
    source: str
    dataset: str
    release: str
    protocol: str
    f1: dict[str, float]

    def obstacles(self, report: FullReport) -> list[str]:
        """Reasons why this row is not comparable with a report; empty if it is."""
        found = []
        if self.release != report.release:
            found.append(f"theirs is on {self.release}, ours on {report.release}")
        if self.protocol == "not stated":
            found.append("their counting rules are not stated")
        elif self.protocol != report.protocol:
            found.append(f"counted by protocol {self.protocol}, ours by {report.protocol}")
        if report.iou != 0.5:
            found.append(f"theirs at IoU 0.5, ours at {report.iou:g}")
        return found


@cache
def published_figures() -> tuple[Published, ...]:
    """Every row of `published.toml`."""
    table = tomllib.loads(files("namepin.evals").joinpath("published.toml").read_text("utf-8"))
    return tuple(Published.model_validate(row) for row in table["result"])


def beside(report: FullReport) -> list[Published]:
    """The rows on the report's data set."""
    return [row for row in published_figures() if row.dataset == report.dataset]
