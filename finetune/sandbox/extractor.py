"""The extractor on the sandbox, from drawn weights: `python -m namepin.finetune.sandbox.extractor OUT --seeds 1 2 3`.

Three runs follow one another, each the recipe of `namepin finetune extractor`. The first trains all weights of a tiny
Qwen2.5-VL on answers with 4 types; it stands in for a published model. The second is SFT by LoRA, on answers with 51
types and perturbed boxes. The third is GRPO from there, on a few posts. Stopped runs resume. The curves are written to
`OUT/extractor.json` and `OUT/extractor.png`.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from namepin.evals.run import load_dataset
from namepin.finetune.extractor.rows import Questioner
from namepin.finetune.extractor.run import STATE
from namepin.finetune.extractor.train import train
from namepin.finetune.loop.run_folder import disk_errors
from namepin.finetune.recipes.extractor import ExtractorTraining, GrpoRecipe, SftRecipe
from namepin.finetune.sandbox.qwen_vl import MERGE, PATCH, save_qwen_vl
from namepin.finetune.sandbox.write import WHOLE, write_world
from namepin.tools.errors import in_one_line
from namepin.tools.extractor.answer import Scheme
from namepin.tools.extractor.prompt import SYSTEM, types_of
from namepin.tools.files import atomic_write

POSTS, WORLD_SEED = {"train": 600, "dev": 32, "test": 32}, 1
LEAST, MOST = 28 * 28, 112 * 112
"""Bounds of a sent picture's pixels."""

GRPO_POSTS = 16
"""The small fixed set of GRPO."""


def prepare(out: Path) -> None:
    """Write the world and the drawn model, where they are missing."""
    if not (out / "world" / WHOLE).is_file():
        write_world(out / "world", POSTS, WORLD_SEED, quiet=True)
    if not (out / "drawn" / "config.json").is_file():
        world = out / "world"
        save_qwen_vl(out / "drawn", corpus(world), width=64, layers=2, tokens=500, whole=constant_parts(world))


def constant_parts(world: Path) -> list[str]:
    """The parts of prompts and answers that never change, or have few forms; each is one token of the drawn model."""
    data = load_dataset("sandbox", world, "train")
    parts = {SYSTEM, '[{"text": "', ', {"text": "', "null}", "]}", '"type"'}
    schemes: tuple[Scheme, ...] = ("gmner4", "fmnerg51")
    for scheme in schemes:
        ask = Questioner(scheme, data.scheme, "pixels", PATCH * MERGE, LEAST, MOST)
        for gold in data.posts[:50]:  # a world's pictures have four sizes, and the prompt says the size
            prompt = ask.ask(gold)["prompt"][-1]["content"][-1]["text"]
            parts.update(re.split(r'(?<=Post: )".*?"(?=\n)', prompt))
        parts.update(f'", "type": "{kind}", "box": ' for kind in types_of(scheme))
    return sorted(parts)


def corpus(world: Path) -> list[str]:
    """The words and numbers that the rest of the vocabulary is learnt from."""
    data = load_dataset("sandbox", world, "train")
    return [f" {token}" for gold in data.posts for token in gold.post.tokens or ()] + 20 * [*map(str, range(113))]


def recipes(out: Path, seed: int) -> Mapping[str, ExtractorTraining]:
    """The runs of a seed, by the names of their folders; the stand-in for a published model is the same for all."""
    shared: dict[str, Any] = {
        "root": str(out / "world"), "dataset": "sandbox", "dtype": "float32", "cpu": True, "accumulate": 1,
        "min_pixels": LEAST, "max_pixels": MOST, "longest": 96, "dev_posts": POSTS["dev"],
    }  # fmt: skip
    tuned = {**shared, "weights": str(out / "pretrained" / "weights"), "seed": seed}
    return {
        "pretrained": SftRecipe(
            **shared, out=str(out / "pretrained"), weights=str(out / "drawn"), whole=True,
            scheme="gmner4", lr=5e-3, epochs=8, batch_size=16, shift=0.0, scale=0.0,
        ),
        f"sft-{seed}": SftRecipe(
            **tuned, out=str(out / f"sft-{seed}"), lr=5e-3, epochs=12, batch_size=16, rank=16, alpha=32
        ),
        f"grpo-{seed}": GrpoRecipe(
            **tuned, out=str(out / f"grpo-{seed}"), start=str(out / f"sft-{seed}" / "weights"), lr=1e-3, epochs=10,
            batch_size=4, answers=8, limit=GRPO_POSTS, patience=10,
        ),
    }  # fmt: skip


def history_of(out: Path) -> list[dict[str, float]]:
    """The epochs of a run, from its last checkpoint."""
    states = sorted(out.glob(f"checkpoints/*/{STATE}"), key=lambda file: int(file.parent.name.rpartition("-")[2]))
    history: list[dict[str, float]] = json.loads(states[-1].read_text("utf-8"))["now"]["history"]
    return history


def draw(curves: Mapping[str, Sequence[Mapping[str, float]]], file: Path) -> None:
    """A picture of the curves: SFT's loss and valid answers, and GRPO's reward, of every seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    panels = (("sft", "loss", "SFT: loss"), ("sft", "valid", "SFT: valid answers on dev"))
    for axis, (stage, key, title) in zip(axes, (*panels, ("grpo", "reward", "GRPO: mean reward")), strict=True):
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
        curves = {}
        for seed in options.seeds:
            for name, recipe in recipes(out, seed).items():
                if name in curves:
                    continue
                print(json.dumps({"run": name, **asdict(recipe)}), flush=True)
                train(recipe, resume=True)
                curves[name] = history_of(out / name)
        atomic_write(out / "extractor.json", json.dumps(curves, indent=1) + "\n")
        draw(curves, out / "extractor.png")


if __name__ == "__main__":
    main()
