"""One optimiser step of the large recipes at their papers' shapes: `python -m namepin.finetune.checks.gpu`, on a GPU.

The report has peak memory, rows and tokens per second of a step. Cases: LLaVA-1.5-7B with LoRA of rank 64 (bf16 and
4-bit), BLIP-large, OFA-large, and the extractor's SFT and GRPO on Qwen2.5-VL-7B (bf16 and 4-bit). Weights are drawn at
random at the published sizes, so nothing is downloaded. The rows come from a small sandbox world. Its posts are padded
to 256 tokens, where GEM truncates them, so the papers' rows need no more memory.
"""

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from namepin.evals.bench.harness import machine
from namepin.finetune.checks.gpu_extractor import extractor_cases
from namepin.finetune.checks.tokens import tokens_read
from namepin.finetune.grounder.ofa import OfaGrounderTask
from namepin.finetune.loop.settings import Training
from namepin.finetune.loop.task import Task
from namepin.finetune.loop.trainer import Run
from namepin.finetune.matcher import MatcherTask
from namepin.finetune.recipes.grounder import OfaGrounderRecipe
from namepin.finetune.recipes.matcher import MatcherRecipe
from namepin.finetune.recipes.reranker import LlavaRecipe
from namepin.finetune.reranker import RerankerTask
from namepin.finetune.sandbox.nets import make_nets
from namepin.finetune.sandbox.write import write_world
from namepin.tools.errors import NamepinError
from namepin.tools.loading.quiet import quiet_transformers
from namepin.tools.models.ofa_checkpoint import load_ofa, save_ofa
from namepin.tools.nets.ofa import Ofa, OfaSizes

LONGEST = 256
"""Largest number of tokens in a post (GEM, appendix)."""


@dataclass(frozen=True)
class Case:
    """A recipe, its task, and the module whose input tokens are counted."""

    recipe: Callable[[], Training]
    task: Callable[[Any], Task]
    reads: str


def check(folder: Path, *, tiny: bool = False, only: Sequence[str] = ()) -> dict[str, dict[str, float]]:
    """The figures of every case, by its name.

    Args:
        folder: where world and weights go; 20 GB of them, and 17 GB for the extractor.
        tiny: use the sandbox's nets on the CPU, to test that the steps run.
        only: names of cases; empty for all.

    Raises:
        NamepinError: E216 without a CUDA device, unless `tiny`; E207 for an unknown case.
    """
    if not tiny and not torch.cuda.is_available():
        raise NamepinError("E216", "no CUDA device found", mend="run it on a machine with a GPU, or add --tiny")
    world, nets = folder / "world", folder / "nets"
    write_world(world, {"train": 160 if tiny else 400, "dev": 4, "test": 4}, 1, quiet=True)
    make_nets(world, nets)
    fill_posts(world / "txt_fine" / "train.txt")
    recipes, extractor = cases_of(world, nets, folder, tiny), extractor_cases(world, folder, tiny)
    cases: dict[str, Callable[[int], dict[str, float]]]
    cases = {**{name: partial(measure, case) for name, case in recipes.items()}, **extractor}
    unknown = [name for name in only if name not in cases]
    if unknown:
        raise NamepinError("E207", f"no case {unknown[0]!r}", mend=f"cases: {', '.join(cases)}")
    if not tiny and set(only or cases) & set(recipes):
        published_sizes(nets)
    return {name: with_peak_memory(cases[name], steps=1 if tiny else 3) for name in only or cases}


def fill_posts(file: Path) -> None:
    """Append full stops to every post of an FMNERG file until it has `LONGEST` words; each full stop is a token."""
    posts = file.read_text("utf-8").strip("\n").split("\n\n")
    filled = [[*(lines := post.split("\n")), *[".\tO\tO"] * (LONGEST + 1 - len(lines))] for post in posts]
    file.write_text("".join("\n".join(lines) + "\n\n" for lines in filled), "utf-8")


def cases_of(world: Path, nets: Path, folder: Path, tiny: bool) -> Mapping[str, Case]:
    """Recipes with their papers' settings, by name."""
    place: dict[str, Any] = {"root": str(world), "dataset": "sandbox", "out": str(folder / "run"), "cpu": tiny}
    half = {**place, "precision": "bf16"}
    llava = {**half, "weights": str(nets / "llava"), "device": "cpu" if tiny else "cuda", "accumulate": 4}
    llava |= {"gradient_checkpointing": True}
    ofa = {**half, "weights": str(nets / "ofa"), "accumulate": 4, **({"image_size": 128} if tiny else {})}
    spoken, blip = "model.language_model", {**half, "weights": str(nets / "blip")}
    cases = {
        "llava-lora-bf16": Case(lambda: LlavaRecipe(**llava), RerankerTask, spoken),
        "llava-lora-4bit": Case(lambda: LlavaRecipe(**llava, quantization="4bit"), RerankerTask, spoken),
        "blip": Case(lambda: MatcherRecipe(**blip), MatcherTask, "vision_model.encoder"),
        "ofa": Case(lambda: OfaGrounderRecipe(**ofa), OfaGrounderTask, "encoder.layers.0"),
    }
    return {name: case for name, case in cases.items() if not (tiny and "4bit" in name)}


def published_sizes(nets: Path) -> None:
    """Replace the tiny nets by nets of the published sizes; the vocabularies stay."""
    from transformers import AutoTokenizer, BlipConfig, BlipForImageTextRetrieval, LlavaConfig
    from transformers import LlavaForConditionalGeneration as Llava

    image = AutoTokenizer.from_pretrained(nets / "llava").convert_tokens_to_ids("<image>")
    torch.manual_seed(1)
    with quiet_transformers():
        torch.set_default_dtype(torch.bfloat16)
        try:
            make_config: Any = LlavaConfig  # whose defaults are LLaVA-1.5-7B's, but for the head's vocabulary
            config = make_config(image_token_index=image)
            config.text_config.vocab_size = 32064
            Llava(config).save_pretrained(nets / "llava")
        finally:
            torch.set_default_dtype(torch.float32)
        vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        vision |= {"image_size": 384, "patch_size": 16}
        sizes: Any = BlipConfig(
            vision_config={**vision, "initializer_range": 0.02}, text_config={"num_attention_heads": 12}
        )
        BlipForImageTextRetrieval(sizes).save_pretrained(nets / "blip")
    vocabulary = load_ofa(nets / "ofa", "", tokenizer="").vocabulary
    save_ofa(Ofa(OfaSizes(vocabulary=vocabulary.size)), vocabulary, nets / "ofa")


def with_peak_memory(case: Callable[[int], dict[str, float]], steps: int) -> dict[str, float]:
    """The figures of a case, with its peak memory on a GPU, loading included."""
    gc.collect()
    if not torch.cuda.is_available():
        return case(steps)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    return case(steps) | {"peak_gib": torch.cuda.max_memory_allocated() / 2**30}


def measure(case: Case, steps: int) -> dict[str, float]:
    """Speed of a recipe's step. The first step allocates memory and is not timed."""
    recipe = case.recipe()
    task = case.task(recipe)
    counted = tokens_read(task.net.get_submodule(case.reads))
    run = Run(recipe, task)
    losses_so_far = run.steps(steps + 1)
    next(losses_so_far)
    counted.clear()
    start = time.perf_counter()
    losses = list(losses_so_far)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return {
        "rows_per_s": recipe.batch_size * len(losses) / seconds,
        "tokens_per_s": sum(counted) / seconds,
        "tokens_per_row": sum(counted) / (recipe.batch_size * len(losses)),
        "batch_size": float(recipe.batch_size),
        "loss": losses[-1],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print a report as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="a case to run, repeatable; all by default")
    parser.add_argument("--tiny", action="store_true", help="the sandbox's own nets, on the CPU")
    given = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = check(Path(folder), tiny=given.tiny, only=given.cases)
    except NamepinError as error:
        parser.exit(2, f"error: {error}\n")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    print(json.dumps({"machine": {**machine(), "device": device}, "cases": found}, indent=1))


if __name__ == "__main__":
    main()
