"""Is the recorded knowledge worth its tokens? One tagger, trained with it and without it, on GMNER's train and dev.

Both arms have the same encoder, losses and number of updates: `bare` sees every post E times without knowledge, `plim`
half as often without and half as often with it, as PLIM's equation for the encoder's input has it. What counts is dev
F1 after the last epoch, read with knowledge by the arm that was trained with it. Finished runs are kept, so that the
command goes on where it was stopped: `python -m finetune.plim_check --data DATA --out DIR`.
"""

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from finetune.tagger import TaggerRecipe, train

EPOCHS = 4
"""Of the bare arm; the other one has half as many, each with every post twice."""


def recipe(arm: str, seed: int, data: str, out: Path, threads: int) -> TaggerRecipe:
    """The settings of one run; the arms differ in the knowledge and in how the same number of updates is cut up."""
    informed = arm == "plim"
    return TaggerRecipe(
        data=data,
        out=str(out / f"{arm}-{seed}"),
        scheme="4",
        knowledge=1.0 if informed else 0.0,
        epochs=EPOCHS // 2 if informed else EPOCHS,
        patience=EPOCHS,
        seed=seed,
        threads=threads,
    )


def run(arm: str, seed: int, data: str, out: Path, threads: int) -> float:
    """Dev F1 (spans with their coarse type) after the last epoch of one run, trained now or read from its folder."""
    settings = recipe(arm, seed, data, out, threads)
    kept = Path(settings.out) / "result.json"
    if not kept.is_file():
        train(settings, resume=True)
        history = json.loads((Path(settings.out) / "adapter" / "config.json").read_text("utf-8"))["training"]["history"]
        kept.write_text(json.dumps(history[-1]), "utf-8")
    last = json.loads(kept.read_text("utf-8"))
    return float(last["dev_f1_knowledge" if arm == "plim" else "dev_f1"])


def main(argv: Sequence[str] | None = None) -> None:
    """Run what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="the folder that holds gmner/")
    parser.add_argument("--out", type=Path, default=Path("out/plim"), help="where the runs are kept")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args(argv)
    seeds = range(1, given.seeds + 1)
    scores: dict[str, list[float]] = {"bare": [], "plim": []}
    for seed in seeds:
        for arm, found in scores.items():
            found.append(run(arm, seed, given.data, given.out, given.threads))
            print(f"seed {seed}, {arm}: {100 * found[-1]:.2f}", flush=True)
    for arm, found in scores.items():
        spread = statistics.stdev(found) if len(found) > 1 else 0.0
        print(
            f"{arm}: {100 * statistics.mean(found):.2f} +- {100 * spread:.2f} (F1, GMNER v2.0 dev, {len(found)} seeds)"
        )
    gains = [informed - bare for bare, informed in zip(scores["bare"], scores["plim"], strict=True)]
    print(f"gain: {100 * statistics.mean(gains):.2f}, smallest {100 * min(gains):.2f}")


if __name__ == "__main__":
    main()
