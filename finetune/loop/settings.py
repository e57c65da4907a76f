"""Settings that every recipe has."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

if TYPE_CHECKING:
    from torch import nn

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Clip = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Jitter = Annotated[float, Field(ge=0, lt=0.5)]
"""Share of a box's side by which an edge moves. A share of one half or more could invert the box."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of every run.

    Attributes:
        out: run folder; the weights are written to `out/weights`.
        epochs: passes over the training rows.
        limit: number of training rows to use, from the start; 0 for all.
        batch_size: rows per step, over all processes.
        accumulate: number of parts that a batch is computed in, for batches that do not fit into memory.
        weight_decay: AdamW's weight decay, for all weights but biases and norms.
        warmup: share of the steps in which the rate rises linearly; it then falls linearly to zero.
        clip: largest norm of the gradient.
        precision: precision of the forward pass, `no`, `bf16` or `fp16`. The weights keep their loaded precision.
        gradient_checkpointing: compute activations twice instead of storing them.
        patience: stop after this number of epochs without a better dev score.
        checkpoint_steps: number of steps between further checkpoints; 0 for one checkpoint per epoch.
        seed: seed of order, augmentation and dropout.
        workers: processes that prepare batches.
        cpu: train on the CPU even if there is an accelerator.
        report_to: `tensorboard` or `wandb`, written to `out/logs`; `none` for neither.
    """

    out: str
    epochs: Positive = 1
    limit: Count = 0
    batch_size: Positive = 4
    accumulate: Positive = 1
    weight_decay: Share = 0.01
    warmup: Share = 0.1
    clip: Clip = 1.0
    precision: Literal["no", "bf16", "fp16"] = "no"
    gradient_checkpointing: bool = False
    patience: Positive = 3
    checkpoint_steps: Count = 0
    seed: int = 1
    workers: Count = 0
    cpu: bool = False
    report_to: Literal["none", "tensorboard", "wandb"] = "none"


@dataclass(frozen=True, kw_only=True)
class LoopSettings(RunSettings, ABC):
    """Settings of our own loop. A recipe adds its own settings and the learning rates of its parameters.

    Attributes:
        ema: decay of a moving average of the weights. The average is then scored on dev and saved. 0 for none.
    """

    ema: Share = 0.0

    @abstractmethod
    def parameter_groups(self, net: "nn.Module") -> list[dict[str, Any]]:
        """AdamW's groups of the trainable parameters, each with its peak `lr` and its `weight_decay`."""

    def rate(self, step: int, total: int) -> float:
        """The learning rate of a step, as a share of the peak rate: linear warm-up, then linear decay.

        Args:
            step: number of the step, from 0.
            total: number of steps.
        """
        warm = int(total * self.warmup)
        return (step + 1) / (warm + 1) if step < warm else (total - step) / (total - warm)


@dataclass(frozen=True, kw_only=True)
class Training(LoopSettings):
    """Settings of a recipe with one learning rate. Its defaults are those of its paper.

    Attributes:
        lr: peak learning rate of AdamW.
    """

    lr: Rate = 5e-5

    def parameter_groups(self, net: "nn.Module") -> list[dict[str, Any]]:
        """Two groups: matrices, with weight decay, and biases and norms, without."""
        trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
        return [
            {"params": [p for p in trainable if p.ndim > 1], "lr": self.lr, "weight_decay": self.weight_decay},
            {"params": [p for p in trainable if p.ndim <= 1], "lr": self.lr, "weight_decay": 0.0},
        ]
