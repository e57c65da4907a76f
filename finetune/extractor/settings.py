"""A recipe's settings as those of trl's trainers."""

from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers import TrainingArguments
from trl import GRPOConfig, SFTConfig

from namepin.finetune.extractor.rewards import REWARDS
from namepin.finetune.recipes.extractor import ExtractorTraining, GrpoRecipe, SftRecipe
from namepin.tools.errors import NamepinError

_NAMES = {field.name for field in fields(TrainingArguments)}
_CHECKPOINTING = next(name for name in ("activation_checkpointing", "gradient_checkpointing") if name in _NAMES)
"""transformers' name since 5.23, else the older one."""


def sft_settings(recipe: ExtractorTraining, processes: int) -> SFTConfig:
    """The settings of `SFTTrainer`; only the answer's tokens have a loss.

    Raises:
        NamepinError: E203 for a batch that cannot be shared.
    """
    assert isinstance(recipe, SftRecipe)
    return SFTConfig(
        **_shared(recipe, _share(recipe, recipe.batch_size, processes)),
        completion_only_loss=True,
        max_length=None,  # a cut would take picture tokens away
    )


def grpo_settings(recipe: GrpoRecipe, processes: int, posts: int) -> GRPOConfig:
    """The settings of `GRPOTrainer`; a step takes `batch_size` posts with `answers` answers each.

    Raises:
        NamepinError: E203 for a batch that cannot be shared, or larger than the training set; E301 without vLLM.
    """
    if posts < recipe.batch_size:
        what, mend = f"batch_size: {recipe.batch_size} posts, of {posts}", f"set it to at most {posts}"
        raise NamepinError("E203", what, mend=mend)
    if recipe.vllm != "none" and find_spec("vllm") is None:
        mend = "pip install 'trl[vllm]' on a machine with a GPU, or set vllm to none"
        raise NamepinError("E301", f"vllm={recipe.vllm} needs the package vllm", mend=mend)
    generator: dict[str, Any] = {}
    if recipe.vllm != "none":
        generator = {
            "use_vllm": True,
            "vllm_mode": recipe.vllm,
            "vllm_server_base_url": recipe.vllm_url if recipe.vllm == "server" else None,
            "vllm_gpu_memory_utilization": recipe.vllm_memory,
        }
    return GRPOConfig(
        **_shared(recipe, _share(recipe, recipe.batch_size * recipe.answers, processes)),
        num_generations=recipe.answers,
        max_completion_length=recipe.longest,
        temperature=recipe.temperature,
        beta=recipe.beta,
        reward_weights=reward_weights(recipe),
        **generator,
    )


def reward_weights(recipe: GrpoRecipe) -> list[float]:
    """The weight of every reward, in the order of `REWARDS`."""
    return [getattr(recipe, reward.__name__) for reward in REWARDS]


def _share(recipe: ExtractorTraining, rows: int, processes: int) -> int:
    """The rows of a process in one part of a batch."""
    share, rest = divmod(rows, processes * recipe.accumulate)
    if rest:
        what = f"accumulate: {rows} rows of a batch are not {recipe.accumulate} equal parts of {processes} processes"
        raise NamepinError("E203", what, mend="change batch_size or accumulate")
    return share


def _shared(recipe: ExtractorTraining, rows: int) -> dict[str, Any]:
    """The settings that both trainers have."""
    return {
        "output_dir": str(Path(recipe.out) / "checkpoints"),
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": rows,
        "gradient_accumulation_steps": recipe.accumulate,
        "learning_rate": recipe.lr,
        "weight_decay": recipe.weight_decay,
        "warmup_steps": recipe.warmup if recipe.warmup < 1 else 0,
        "lr_scheduler_type": "linear",
        "max_grad_norm": recipe.clip,
        "optim": "adamw_torch",
        "bf16": recipe.precision == "bf16",
        "fp16": recipe.precision == "fp16",
        _CHECKPOINTING: recipe.gradient_checkpointing,
        "seed": recipe.seed,
        "dataloader_num_workers": recipe.workers,
        "use_cpu": recipe.cpu,
        "report_to": [] if recipe.report_to == "none" else [recipe.report_to],
        "save_strategy": "no",  # `ExtractorRun` says when
        "save_total_limit": 2,
        "logging_strategy": "steps",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,  # a loss that is not finite must be seen
        "disable_tqdm": True,
        "remove_unused_columns": False,
    }
