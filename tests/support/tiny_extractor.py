"""A tiny Qwen2.5-VL for the extractor's recipes, whose tokenizer knows the tool's prompt and the answers of a world."""

from pathlib import Path
from typing import Any

from namepin.evals.run import load_dataset
from namepin.finetune.extractor.rows import Questioner
from namepin.finetune.recipes.extractor import RECIPES, ExtractorTraining
from namepin.finetune.sandbox.qwen_vl import save_qwen_vl
from namepin.tools.extractor.prompt import SYSTEM

PIXELS = {"min_pixels": 28 * 28, "max_pixels": 56 * 56}


def save_model(root: Path, folder: Path, dataset: str = "gmner", **sizes: Any) -> Path:
    """A model with drawn weights for the world in `root`."""
    data = load_dataset(dataset, root, "train")
    ask = Questioner("fmnerg51" if data.has_fine else "gmner4", data.scheme, "pixels", 28, 28 * 28, 56 * 56)
    texts = [SYSTEM]
    for gold in data.posts:
        row = ask.ask(gold)
        texts += [row["prompt"][1]["content"][-1]["text"], ask.answer(gold, row["frame"], None, 0.0, 0.0, "")]
    return save_qwen_vl(folder, 3 * texts, **sizes)


def a_recipe(stage: str, root: Path, weights: Path, out: Path, **changes: Any) -> ExtractorTraining:
    """A recipe of either stage for the tiny world."""
    given: dict[str, Any] = {
        "root": str(root), "weights": str(weights), "out": str(out), "dtype": "float32", "cpu": True, "epochs": 1,
        "batch_size": 4, "accumulate": 1, "longest": 40, "dev_posts": 4, "rank": 8, "alpha": 16, **PIXELS,
    }  # fmt: skip
    if stage == "grpo":
        given |= {"batch_size": 2, "answers": 4}
    return RECIPES[stage](**given | changes)  # type: ignore[no-any-return]
