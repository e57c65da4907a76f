"""The extractor's steps at Qwen2.5-VL-7B's shapes, for `python -m namepin.finetune.checks.gpu`.

Weights are drawn at random. Every picture is read at 1,000,000 pixels, about 1,300 tokens, and GRPO's answers are drawn
to their full length, since a net without training does not end them.
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from namepin.evals.run import load_dataset
from namepin.finetune.checks.tokens import tokens_read
from namepin.finetune.extractor.quiet import quiet_checkpointing
from namepin.finetune.extractor.train import ExtractorTask
from namepin.finetune.recipes.extractor import ExtractorTraining, GrpoRecipe, SftRecipe
from namepin.finetune.sandbox.qwen_vl import save_qwen_vl
from namepin.tools.loading.quiet import quiet_transformers

PUBLISHED: Mapping[str, Any] = {
    "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "vocab_size": 152064,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
}  # fmt: skip
PUBLISHED_VISION: Mapping[str, Any] = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
    "fullatt_block_indexes": [7, 15, 23, 31], "window_size": 112,
}  # fmt: skip


def extractor_cases(world: Path, folder: Path, tiny: bool) -> dict[str, Callable[[int], dict[str, float]]]:
    """SFT and GRPO with LoRA on bf16 and on 4-bit weights, by name; each measures a number of steps."""
    shared: dict[str, Any] = {
        "root": str(world), "dataset": "sandbox", "out": str(folder / "run"), "weights": str(folder / "qwen"),
        "cpu": tiny, "device": "cpu" if tiny else "cuda", "precision": "bf16", "gradient_checkpointing": True,
        "dev_posts": 1,
    }  # fmt: skip
    pixels = 112 * 112 if tiny else 1_000_000
    shared |= {"min_pixels": pixels, "max_pixels": 2 * pixels}
    if tiny:
        shared |= {"batch_size": 2, "accumulate": 2, "longest": 8}
    answers = {"answers": 2} if tiny else {"longest": 256}
    found: dict[str, Callable[[int], dict[str, float]]] = {}
    for name, quantization in (("bf16", "none"), ("4bit", "4bit")):
        sft = partial(SftRecipe, **shared | {"quantization": quantization})
        grpo = partial(GrpoRecipe, **shared | answers | {"quantization": quantization})
        for stage, make in (("sft", sft), ("grpo", grpo)):
            found[f"extractor-{stage}-{name}"] = partial(_measure, make, tiny)
    return {name: case for name, case in found.items() if not (tiny and "4bit" in name)}


def _save(recipe: ExtractorTraining, tiny: bool) -> None:
    """Draw the weights, unless an earlier case has."""
    folder = Path(recipe.weights)
    if (folder / "config.json").is_file():
        return
    texts = [gold.post.text for gold in load_dataset("sandbox", Path(recipe.root), "train").posts]
    torch.set_default_dtype(torch.bfloat16)
    try:
        sizes: dict[str, Any] = {} if tiny else {"text": PUBLISHED, "vision": PUBLISHED_VISION}
        save_qwen_vl(folder, texts, **sizes)
    finally:
        torch.set_default_dtype(torch.float32)


def _measure(make: Callable[..., ExtractorTraining], tiny: bool, steps: int) -> dict[str, float]:
    """Speed of a recipe's steps; the first one allocates memory and is not timed."""
    recipe = make(epochs=1)
    recipe = make(epochs=1, limit=recipe.batch_size * (steps + 1))
    _save(recipe, tiny)
    task = ExtractorTask(recipe)
    trainer = task.trainer()
    trainer.remove_callback(task.run)
    counted = tokens_read(task.model.net.get_base_model().model.language_model)
    watch = _Stopwatch(counted)
    trainer.add_callback(watch)
    with quiet_transformers(), quiet_checkpointing():
        trainer.train()
    rows = recipe.batch_size * (recipe.answers if isinstance(recipe, GrpoRecipe) else 1)
    seconds, tokens = watch.times[-1] - watch.times[0], watch.tokens[-1] - watch.tokens[0]
    return {
        "rows_per_s": rows * steps / seconds,
        "tokens_per_s": tokens / seconds,
        "tokens_per_row": tokens / (rows * steps),
        "batch_size": float(rows),
        "loss": watch.loss,
    }


class _Stopwatch(TrainerCallback):
    """The time and the number of tokens at the end of every step, and the last loss."""

    def __init__(self, counted: list[int]) -> None:
        self._counted, self.times, self.tokens, self.loss = counted, list[float](), list[int](), 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Wait for the device, then look at the clock."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        self.tokens.append(sum(self._counted))

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Keep the loss."""
        self.loss = float(given["logs"].get("loss", self.loss))
