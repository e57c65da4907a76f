"""Measure trained sandboxes: `python -m namepin.finetune.sandbox.measure OUT [OUT ...] --split test`.

Both graphs run on a split with each OUT's nets, one OUT per seed. The commands are printed. Measurements newer than the
nets and the profile are kept. The tables have means and standard deviations over the OUTs.
"""

import argparse
import json
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from namepin.evals.ablations import value_at
from namepin.finetune.sandbox.tracing import hits
from namepin.finetune.sandbox.train import PROFILE, run, write_profile
from namepin.tools.errors import NamepinError, in_one_line

MEASURES: Mapping[str, Sequence[str]] = {
    "GEM": (),
    "GEM-without-reranker": ("--set", "reranker.backend=off"),
    "RiVEG": (
        "--set", "graph=riveg", "--set", "reranker.backend=off", "--set", "expansion.backend=recorded",
        "--set", "expansion.file={out}/world/expansions/{split}.jsonl",
    ),
    "text-only": ("--set", "reranker.backend=off", "--visual", "none"),
}  # fmt: skip
"""Arguments of `namepin eval` after the profile."""

COLUMNS = {
    "MNER 4": "mner.f1",
    "GMNER 4": "gmner.f1",
    "EEG": "eeg.f1",
    "SMNER 4": "smner.f1",
    "MNER 51": "fine.mner.f1",
    "GMNER 51": "fine.gmner.f1",
    "in the picture?": "groundability.accuracy",
    "Prec@0.5": "regions.precision_at_iou",
    "small": "regions.small.precision_at_iou",
}
"""Headings, and the path of each number in an evaluation's JSON."""

TRACED = {"peaks in the box, trained matcher": "matcher/weights", "peaks in the box, as drawn": "nets/blip"}


def command(name: str, out: Path, split: str) -> list[str]:
    """The command line of a measurement."""
    world = ["--dataset", "sandbox", "--root", f"{out}/world", "--split", split, "--knowledge", "recorded"]
    more = [word.format(out=out, split=split) for word in MEASURES[name]]
    return ["namepin", "eval", *world, "--profile", f"{out}/{PROFILE}", *more, "--json", str(_result(name, out, split))]


def measure(outs: Sequence[Path], split: str) -> None:
    """Run the measurements that are missing or older than the nets, two at a time.

    Raises:
        NamepinError: E210 when an OUT was not written by `namepin.finetune.sandbox.train`.
        SystemExit: when a run fails; its output is in `OUT/logs`.
    """
    for out in outs:
        if not out.is_dir():
            raise NamepinError("E210", "nothing was trained here", where=str(out), mend="train it first")
    for out in outs:
        (out / "measured").mkdir(exist_ok=True)
        (out / "logs").mkdir(exist_ok=True)
        write_profile(out)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(_evaluate, name, out, split) for out in outs for name in MEASURES]
        futures += [pool.submit(_trace, out, split) for out in outs]
        for one in futures:
            one.result()


def _result(name: str, out: Path, split: str) -> Path:
    return out / "measured" / f"{split}-{name}.json"


def _fresh(result: Path, out: Path) -> bool:
    newest = max(file.stat().st_mtime for file in (out / PROFILE, *out.glob("*/done.json")))
    return result.is_file() and result.stat().st_size > 0 and result.stat().st_mtime > newest


def _evaluate(name: str, out: Path, split: str) -> None:
    if not _fresh(_result(name, out, split), out):
        run(command(name, out, split), out / "logs" / f"eval-{split}-{name}.log")


def _trace(out: Path, split: str) -> None:
    result = _result("tracing", out, split)
    if not _fresh(result, out):
        found = {name: hits(out / "world", split, str(out / weights)) for name, weights in TRACED.items()}
        shares = {name: inside / count for name, (inside, count, _) in found.items()}
        result.write_text(json.dumps(shares) + "\n", encoding="utf-8")


def table(outs: Sequence[Path], split: str) -> str:
    """Markdown: one row per measure and the tracing, in percent, mean and standard deviation over `outs`."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for name in MEASURES:
        results = [json.loads(_result(name, out, split).read_text(encoding="utf-8")) for out in outs]
        cells = [_cell([value_at(one, path) for one in results]) for path in COLUMNS.values()]
        lines.append(f"| {name.replace('-', ' ')} | {' | '.join(cells)} |")
    traced = [json.loads(_result("tracing", out, split).read_text(encoding="utf-8")) for out in outs]
    lines += ["", *(f"{name}: {_cell([one[name] for one in traced])}" for name in TRACED)]
    return "\n".join(lines)


def _cell(values: Sequence[float | None]) -> str:
    numbers = [100 * value for value in values if value is not None]
    if len(numbers) < len(values):
        return ""
    spread = f" ± {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
    return f"{statistics.mean(numbers):.1f}{spread}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="+")
    parser.add_argument("--split", default="test", choices=("dev", "test"))
    options = parser.parse_args(argv)
    measure(options.out, options.split)
    print(f"\n{options.split}, {len(options.out)} trainings\n\n{table(options.out, options.split)}")


if __name__ == "__main__":
    with in_one_line():
        main()
