"""Compare taggers trained with and without the recorded knowledge, on GMNER's train and dev.

Both arms have the same encoder, losses and number of updates. `bare` sees every post E times without knowledge. `plim`
sees it half as often without and half as often with knowledge, as in PLIM's equation for the encoder's input.
The output has the dev F1 of each run after its last epoch; the `plim` arm reads dev with knowledge. Then, per seed, a
paired bootstrap over the dev posts compares the saved adapters, which are those of each run's best epoch. It skips
PLIM's annotated samples, because the prompt behind their knowledge may have shown their own annotation.
Finished runs are kept, so that a restarted command continues where it stopped:
`python -m namepin.finetune.checks.plim --data DATA --out DIR`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from namepin.evals.datasets.gold import Dataset
from namepin.evals.run import load_dataset, recorded_knowledge
from namepin.evals.scoring.predictions import Predictions, check
from namepin.evals.scoring.significance import compare, over_seeds
from namepin.finetune.recipes.tagger import TaggerRecipe
from namepin.finetune.tagger.train import train
from namepin.tools.errors import in_one_line
from namepin.tools.examples.samples import annotated_ids
from namepin.tools.interfaces import TagRequest
from namepin.tools.media import Media
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger

EPOCHS = 2
"""Epochs of the bare arm. The other arm has half as many epochs, each with every post twice."""


def recipe(arm: str, seed: int, data: str, out: Path, threads: int) -> TaggerRecipe:
    """The settings of one run. The arms differ in the knowledge and in the number of epochs, not in the updates."""
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
    """Dev F1 (span and coarse type) after the last epoch of one run, trained now or read from its folder."""
    settings = recipe(arm, seed, data, out, threads)
    result = Path(settings.out) / "result.json"
    if not result.is_file():
        train(settings, resume=True)
        history = json.loads((Path(settings.out) / "adapter" / "config.json").read_text("utf-8"))["training"]["history"]
        result.write_text(json.dumps(history[-1]), "utf-8")
    last = json.loads(result.read_text("utf-8"))
    return float(last["dev_f1_knowledge" if arm == "plim" else "dev_f1"])


def dev_posts(data: str) -> Dataset:
    """GMNER dev without PLIM's annotated samples, if their file exists."""
    dev = load_dataset("gmner", Path(data) / "gmner", "dev").usable()
    annotated = annotated_ids(tuple(map(str, sorted((Path(data) / "plim").glob("*.jsonl")))))
    return dev.only([gold.post.id for gold in dev.posts if gold.post.id not in annotated])


def predict(folder: Path, dev: Dataset, knowledge: Mapping[str, str]) -> Predictions:
    """The predictions of a run's adapter. Posts are read with their `knowledge`, if there is any."""
    requests = [
        TagRequest(text=gold.post.text, tokens=gold.post.tokens, knowledge=knowledge.get(gold.post.text))
        for gold in dev.posts
    ]
    tagged = DualTagger(TaggerConfig(adapter=str(folder / "adapter"))).run(requests, Media())
    rows = [
        (
            gold.post.id,
            {"id": gold.post.id, "entities": [m.model_dump(include={"label", "start", "end"}) for m in tags.mentions]},
        )
        for gold, tags in zip(dev.posts, tagged, strict=True)
    ]
    return check(rows, dev)


def report_pairs(data: str, out: Path, seeds: Sequence[int]) -> None:
    """Print the paired comparison of the two arms' adapters, and of the `plim` one with its own bare reading."""
    dev = dev_posts(data)
    known = recorded_knowledge(Path(data) / "gmner", "dev", dev)
    print(f"{dev.title}; paired bootstrap over posts")
    rows: dict[str, list[float]] = {"bare": [], "plim": [], "plim, knowledge withheld": []}
    for seed in seeds:
        informed = predict(out / f"plim-{seed}", dev, known)
        others = {"bare": predict(out / f"bare-{seed}", dev, {})}
        others["plim, knowledge withheld"] = predict(out / f"plim-{seed}", dev, {})
        for name, other in others.items():
            found = compare(dev, other, informed, "mner")
            rows[name].append(found.first)
            gain = found.difference
            print(
                f"seed {seed}: plim {100 * found.second:.2f}, {name} {100 * found.first:.2f}, gain "
                f"{100 * gain.value:.2f} [{100 * gain.low:.2f}, {100 * gain.high:.2f}], p {found.p_value:.4f}"
            )
        rows["plim"].append(found.second)
    for name, values in rows.items():
        print(f"{name}: {format_scores(values)}")


def format_scores(values: Sequence[float]) -> str:
    """Mean and deviation of F1 over seeds, in percent."""
    spread = over_seeds(values)
    deviation = "" if spread.deviation is None else f" +- {100 * spread.deviation:.2f}"
    return f"{100 * spread.mean:.2f}{deviation} (F1, {len(values)} seeds)"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the missing trainings and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="the folder that holds gmner/")
    parser.add_argument("--out", type=Path, default=Path("out/plim"), help="folder of the runs")
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
        print(f"{arm}, last epoch, all of GMNER v2.0 dev: {format_scores(found)}")
    report_pairs(given.data, given.out, seeds)


if __name__ == "__main__":
    with in_one_line():
        main()
