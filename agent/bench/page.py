"""`docs/performance.md` from the report of `namepin bench --json`.

Use: `python -m namepin.agent.bench.page bench.json > FILE`.
"""

import argparse
import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from namepin.agent.bench.registry import BENCHES, Bench

HEAD = """# Performance
Made by `namepin bench --json bench.json`, then `python -m namepin.agent.bench.page bench.json`. A
ratio compares two ways in one run on one machine: it travels, seconds do not. Every baseline is in
the repository, beside the bench that measures it. `agent/bench/registry.py` lists the benches, and
holds the notes below their figures. Each bench names the machine that it ran on.
"""


def page(report: Mapping[str, Any], benches: Mapping[str, Bench] = BENCHES) -> str:
    """The page.

    Args:
        report: the result of `namepin.agent.bench.registry.run`.
        benches: the benches, whose notes are printed below their figures.
    """
    parts = [HEAD]
    for name, result in report["benches"].items():
        goals = "; ".join(f"{goal['goal']} ({'met' if goal['met'] else 'MISSED'})" for goal in result["goals"])
        rows = [f"| {figure} | {value:.4g} |" for figure, value in result["figures"].items()]
        note = textwrap.fill(benches[name].note, 100, break_on_hyphens=False) if name in benches else ""
        table = "\n".join(["| figure | value |", "| --- | --- |", *rows])
        machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
        about = f"{result['about']}. Goal: {goals}. Measured on {result['measured']}: {machine}."
        about = textwrap.fill(about, 100, break_on_hyphens=False)
        parts.append(f"## {name}\n{about}\n\n{table}\n" + (f"\n{note}\n" if note else ""))
    return "\n".join(parts)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the page of one report or several; for a bench in several reports, the last one counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reports", nargs="+", type=Path)
    reports = [json.loads(path.read_text(encoding="utf-8")) for path in parser.parse_args(argv).reports]
    benches = {name: row for report in reports for name, row in report["benches"].items()}
    print(page({"benches": benches}), end="")


if __name__ == "__main__":
    main()
