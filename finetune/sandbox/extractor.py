"""The extractor on the sandbox, from drawn weights: `python -m namepin.finetune.sandbox.extractor OUT --seeds 1 2 3`.

A tiny Qwen2.5-VL with drawn weights learns to repeat what it read, and then stands in for a published model. Every seed
has two runs of `namepin finetune extractor`: SFT of all weights, and GRPO by LoRA on a few fixed posts. Answers are
greedy and free: nothing limits them to the form. The models are scored on the test posts, whose names occur in no
training post. Stopped runs resume. The curves are printed, and written to `OUT/extractor.json` and
`OUT/extractor.png`.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from namepin.evals.run import load_dataset
from namepin.finetune.extractor.rows import Questioner
from namepin.finetune.extractor.run import STATE
from namepin.finetune.extractor.train import ExtractorTask, train
from namepin.finetune.loop.run_folder import disk_errors, whole_folder
from namepin.finetune.recipes.extractor import ExtractorTraining, GrpoRecipe, SftRecipe
from namepin.finetune.sandbox.qwen_vl import MERGE, PATCH, save_qwen_vl
from namepin.finetune.sandbox.repeating import teach_to_repeat
from namepin.finetune.sandbox.write import WHOLE, write_world
from namepin.tools.errors import in_one_line
from namepin.tools.extractor.prompt import SYSTEM, types_of
from namepin.tools.files import atomic_write

POSTS, WORLD_SEED = {"train": 2000, "dev": 100, "test": 200}, 1
SIDE = 84
LEAST, MOST = 28 * 28, SIDE * SIDE
"""Bounds of a sent picture's pixels; no side of the world's pictures is then longer than `SIDE`."""

GRPO_POSTS = 16
"""The small fixed set of GRPO."""

BASE, REPEATING_STEPS = "pretrained", 1000
"""Folder of the model to begin with, and the steps that it learns to repeat."""

SMALL_EYE: Mapping[str, Any] = {"depth": 1, "fullatt_block_indexes": [0], "window_size": 112}
"""One layer without windows: at these few patches, windows only cost time."""


def prepare(out: Path) -> None:
    """Write the world and the model to begin with, where they are missing."""
    world = out / "world"
    if not (world / WHOLE).is_file():
        write_world(world, POSTS, WORLD_SEED, quiet=True)
    if (out / BASE).is_dir():
        return
    posts = [gold.post.text for gold in load_dataset("sandbox", world, "train").posts]
    sizes: dict[str, Any] = {"width": 64, "layers": 2, "tokens": 900, "vision": SMALL_EYE}
    with whole_folder(out / BASE) as folder:
        save_qwen_vl(folder, posts, whole=constant_parts(world), names_apart=True, **sizes)
        loss = teach_to_repeat(folder, WORLD_SEED, REPEATING_STEPS)
        print(json.dumps({"run": BASE, "loss": round(loss, 4)}), flush=True)


def constant_parts(world: Path) -> list[str]:
    """The parts of prompts and answers that never change, or have few forms; each is one token of the drawn model.

    A coordinate is one token with its comma or bracket, so that every place in an answer has tokens of its own. With
    the comma as a token, small nets took one place for another: one answer in twenty began a box within a name.
    """
    data = load_dataset("sandbox", world, "train")
    parts = {SYSTEM, '[{"text": "', ', {"text": "', "null}", "[", "]", ", ", *map(str, range(SIDE + 1))}
    parts.update(form.format(number) for form in ("[{}, ", "{}, ", "{}]}}") for number in range(SIDE + 1))
    ask = Questioner("gmner4", data.scheme, "pixels", PATCH * MERGE, LEAST, MOST)
    for gold in data.posts[:50]:  # a world's pictures have four sizes, and the prompt says the size
        prompt = ask.ask(gold)["prompt"][-1]["content"][-1]["text"]
        parts.update(re.split(r'(?<=Post: )".*?"(?=\n)', prompt))
    parts.update(f'", "type": "{kind}", "box": ' for kind in types_of("gmner4"))
    return sorted(parts)


def recipes(out: Path, seed: int) -> Mapping[str, ExtractorTraining]:
    """The runs of a seed, by the names of their folders."""
    shared: dict[str, Any] = {
        "root": str(out / "world"), "dataset": "sandbox", "scheme": "gmner4", "dtype": "float32", "cpu": True,
        "accumulate": 1, "min_pixels": LEAST, "max_pixels": MOST, "longest": 64, "dev_posts": 32, "seed": seed,
    }  # fmt: skip
    sft, grpo = out / f"sft-{seed}", out / f"grpo-{seed}"
    return {
        sft.name: SftRecipe(
            **shared, out=str(sft), weights=str(out / BASE), whole=True, batch_size=8, lr=2e-3, epochs=3,
            warmup=0.05,
        ),
        grpo.name: GrpoRecipe(
            **shared | {"dev_posts": 16}, out=str(grpo), weights=str(sft / "weights"), limit=GRPO_POSTS, lr=4e-3,
            epochs=10, batch_size=4, answers=8, rank=16, alpha=32, patience=10, warmup=0.0, clip=1.0,
        ),
    }  # fmt: skip


def held_out(recipe: ExtractorTraining) -> dict[str, float]:
    """The scores of a trained model on the test posts, by greedy answers."""
    trained = str(Path(recipe.out) / "weights")
    place: dict[str, Any] = {"weights": trained} if isinstance(recipe, SftRecipe) else {"start": trained}
    task = ExtractorTask(replace(recipe, dev="test", dev_posts=POSTS["test"], **place))
    task.model.net.eval()
    with torch.inference_mode():
        return task.score()


def history_of(out: Path) -> list[dict[str, float]]:
    """The epochs of a run, from its last checkpoint."""
    states = sorted(out.glob(f"checkpoints/*/{STATE}"), key=lambda file: int(file.parent.name.rpartition("-")[2]))
    history: list[dict[str, float]] = json.loads(states[-1].read_text("utf-8"))["now"]["history"]
    return history


PANELS = (
    ("sft", "loss", "SFT: loss"),
    ("sft", "valid", "SFT: share of valid answers on dev"),
    ("grpo", "reward", "GRPO: mean reward of the drawn answers"),
)
"""Stage, key of the history, and title of each curve."""


def tables(curves: Mapping[str, Sequence[Mapping[str, float]]], scores: Mapping[str, Mapping[str, float]]) -> str:
    """The curves and the scores on the test posts, as Markdown."""
    lines = []
    for stage, key, title in PANELS:
        rows = {name: row for name, row in curves.items() if name.startswith(stage)}
        epochs = range(1, 1 + max((len(row) for row in rows.values()), default=0))
        lines += [
            f"| {title} | {' | '.join(f'epoch {epoch}' for epoch in epochs)} |",
            f"| {'--- | ' * len(epochs)}--- |",
        ]
        lines += [f"| {name} | {' | '.join(f'{row[key]:.3f}' for row in history)} |" for name, history in rows.items()]
        lines.append("")
    keys = ("valid", "span_f1", "mner_f1", "gmner_f1", "dev_reward")
    lines += [f"| {POSTS['test']} test posts | {' | '.join(keys)} |", f"| {'--- | ' * len(keys)}--- |"]
    lines += [f"| {name} | {' | '.join(f'{found[key]:.3f}' for key in keys)} |" for name, found in scores.items()]
    return "\n".join(lines)


def draw(curves: Mapping[str, Sequence[Mapping[str, float]]], file: Path) -> None:
    """A picture of the curves: SFT's loss and valid answers, and GRPO's reward, of every seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(12, 3.4), layout="constrained")
    for axis, (stage, key, title) in zip(axes, PANELS, strict=True):
        for name, rows in curves.items():
            if name.startswith(stage):
                axis.plot([row["epoch"] for row in rows], [row[key] for row in rows], marker="o", label=name)
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    """Run every seed, then write the curves."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    options = parser.parse_args(argv)
    out: Path = options.out
    torch.set_flush_denormal(True)  # as in `namepin finetune`
    with in_one_line():
        with disk_errors(out):
            out.mkdir(parents=True, exist_ok=True)
            prepare(out)
        curves, scores = {}, {}
        for seed in options.seeds:
            for name, recipe in recipes(out, seed).items():
                print(json.dumps({"run": name, **asdict(recipe)}), flush=True)
                train(recipe, resume=True)
                curves[name], scores[name] = history_of(out / name), held_out(recipe)
                print(json.dumps({"run": name, "test": scores[name]}), flush=True)
        atomic_write(out / "extractor.json", json.dumps({"epochs": curves, "test": scores}, indent=1) + "\n")
        draw(curves, out / "extractor.png")
        print(tables(curves, scores))


if __name__ == "__main__":
    main()
