"""The loop that the recipes of the neural tools share, on accelerate.

A recipe brings a `Task`: the net that its tool loads, rows, a loss and a dev score. The loop brings what is the same
for all: mixed precision, accumulation, several processes, the learning rate's schedule, early stopping, checkpoints,
the manifest and the model card.

Rows, order, dropout: everything random is drawn from (seed, epoch, step), so that a run resumed after `kill -9` takes
the very steps that it would have taken. A checkpoint is one file, moved into place once it is whole: a half-written
one is never loaded.
"""

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from pydantic import Field
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from namepin.finetune.loop.fsdp import callable_in_parts, gathered, layers_of, put_states, settle, whole, whole_states
from namepin.finetune.loop.run_folder import (
    CHECKPOINT,
    disk_errors,
    made,
    put,
    read_checkpoint,
    see_finite,
    see_weights_finite,
    settings_of,
    trained,
    whole_folder,
    write_checkpoint,
    write_manifest,
)
from namepin.tools.errors import NamepinError

Batch = Mapping[str, Any]
Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Clip = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Jitter = Annotated[float, Field(ge=0, lt=0.5)]
"""Share of a box's side by which an edge moves; from one half on, a box could be turned inside out."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """Settings that every recipe has beside its own; a recipe's defaults are its paper's.

    Attributes:
        out: run folder; the weights are written to `out/weights`.
        epochs: passes over the training rows.
        batch_size: rows a step, over all processes.
        accumulate: parts that a batch is computed in, where it does not fit into memory at once.
        lr: peak learning rate of AdamW.
        weight_decay: of all weights but biases and norms.
        warmup: share of the steps in which the rate rises linearly; it then falls linearly to nothing.
        clip: largest norm of the gradient.
        precision: `no`, `bf16` or `fp16`; of the forward pass, while weights stay as they were loaded.
        gradient_checkpointing: compute activations twice instead of keeping them.
        patience: stop after so many epochs without a better dev score.
        checkpoint_steps: write a checkpoint every so many steps, and not only after each epoch; 0 for the latter.
        seed: of order, augmentation and dropout.
        workers: processes that prepare pictures.
        cpu: train on the CPU even where there is an accelerator.
        report_to: `tensorboard` or `wandb`, written to `out/logs`; `none` for neither.
    """

    out: str
    epochs: Positive = 1
    batch_size: Positive = 4
    accumulate: Positive = 1
    lr: Rate = 5e-5
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


@dataclass
class Progressed:
    """How far a run has come."""

    epoch: int = 0
    step: int = 0
    """Of all steps."""

    done: int = 0
    """Steps of the current epoch, and the sum of their losses."""

    total: float = 0.0
    best: float = -math.inf
    stale: int = 0
    """Epochs since the best one."""


class Task(Protocol):
    """What a recipe brings to the loop."""

    name: str
    """The tool that is trained."""

    net: nn.Module
    data: dict[str, str]
    """Sha256 of what was read: texts and what belongs to them, boxes and masks, not pictures."""

    def rows(self, rng: random.Random) -> Sequence[Any]:
        """The training rows of an epoch in its order; `rng` draws that order, and augmentation."""
        ...

    def collate(self, rows: list[Any]) -> Batch:
        """Tensors of some rows, on the CPU."""
        ...

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        ...

    def score(self) -> dict[str, float]:
        """Scores on dev, of the net as it is, in evaluation mode; by the first, the higher the better, it is kept."""
        ...

    def save(self, folder: Path) -> None:
        """Write the weights in the form that the tool loads."""
        ...


class Objective(nn.Module):
    """A net with its loss as the forward pass, so that accelerate can wrap it for several processes."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.net, self._loss = task.net, task.loss
        self._no_split_modules = layers_of(task.net)  # where FSDP may cut

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss."""
        return self._loss(self.net, batch)

    def train(self, mode: bool = True) -> "Objective":
        """As every module, but batch norms keep the statistics they came with: these batches are small."""
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self


class Run:
    """One run of a recipe."""

    def __init__(self, recipe: Training, task: Task) -> None:
        self.recipe, self.task, self.out = recipe, task, Path(recipe.out)
        logs = None if recipe.report_to == "none" else recipe.report_to
        if logs and find_spec(logs) is None:
            package = "'namepin[curves]'" if logs == "tensorboard" else logs
            mend = f"pip install {package}, or set report_to to none"
            raise NamepinError("E301", f"report_to={logs} needs the package {logs}", mend=mend)
        AcceleratorState._reset_state()  # it keeps the precision of the process's first run for all
        self.accelerator = Accelerator(
            mixed_precision=recipe.precision,
            cpu=recipe.cpu,
            log_with=logs,
            project_dir=str(self.out / "logs"),
            # Heads that a loss does not use, such as BLIP's projections, get no gradient.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        settle(self.accelerator)
        if recipe.gradient_checkpointing:
            enable: Any = getattr(task.net, "activation_checkpointing_enable", None)  # transformers' name since 5.23
            enable = enable or getattr(task.net, "gradient_checkpointing_enable", None)
            if enable is None:
                raise NamepinError(
                    "E217",
                    f"{task.name}: this net cannot compute its activations twice",
                    mend="set gradient_checkpointing to false",
                )
            enable()
        rows = len(task.rows(random.Random(0)))
        if not rows:
            raise NamepinError("E139", "there is no row to train on", mend="see that the split has what the tool needs")
        self.per_epoch = math.ceil(rows / recipe.batch_size)
        self.now, self.history = Progressed(), list[dict[str, float]]()
        optimiser = torch.optim.AdamW(decayed(task.net, recipe.weight_decay), lr=recipe.lr)
        self.objective, self.optimiser = self.accelerator.prepare(Objective(task), optimiser)

    def run(self, resume: bool) -> dict[str, Any]:
        """Train to the end, or until the dev score stops rising; the best epoch's weights are then in `out/weights`.

        Returns:
            The best epoch's row of the history, and where the weights are.

        Raises:
            NamepinError: E205 a resume with another configuration or other data, E220 a loss or a gradient that is
                no number, E500 a disk that cannot be written.
        """
        made(self.out)
        if resume:
            self._restore()
        if self.recipe.report_to != "none":
            logs = self.out / "logs"
            logs.mkdir(exist_ok=True)
            place = {"wandb": {"dir": str(logs)}}  # TensorBoard has been told
            self.accelerator.init_trackers("namepin", config=plain_settings(self.recipe), init_kwargs=place)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        quiet = not self.accelerator.is_main_process
        with Progress(*columns, TimeRemainingColumn(compact=True), disable=quiet) as bar:
            total = self.per_epoch * self.recipe.epochs
            shown = bar.add_task(self.task.name, total=total, completed=self.now.step)
            while self.now.epoch < self.recipe.epochs and self.now.stale < self.recipe.patience:
                for mean in self._epoch():
                    bar.update(shown, advance=1, description=f"epoch {self.now.epoch + 1}, loss {mean:.4f}")
                if not hasattr(self.objective, "unshard"):  # FSDP cannot score before it has taken a step
                    self._checkpoint()  # a damaged picture of dev, or a full disk, does not cost the epoch
                self._evaluate()
                if not quiet:
                    bar.console.print_json(json.dumps(self.history[-1]), indent=None)
        self.accelerator.end_training()
        best = max(self.history, key=lambda row: row["score"])
        return {**best, "weights": str(self.out / "weights")}

    def steps(self, count: int) -> Iterator[float]:
        """The mean losses of the first steps of an epoch, for a look at how a recipe runs; nothing is written."""
        return islice(self._epoch(), count)

    def _epoch(self) -> Iterator[float]:
        """Take the steps of the current epoch that are not done yet; yields its mean loss so far."""
        recipe, now = self.recipe, self.now
        rng = random.Random(f"{recipe.seed}/{now.epoch}")
        rows = self.task.rows(rng)
        batches = [rows[at : at + recipe.batch_size] for at in range(0, len(rows), recipe.batch_size)]
        self.objective.train()
        for parts in self._prepared(batches[now.done :]):
            seed = random.Random(f"{recipe.seed}/{now.epoch}/{now.done}/{self.accelerator.process_index}")
            torch.manual_seed(seed.getrandbits(63))
            now.total += self._step(parts)
            now.step, now.done = now.step + 1, now.done + 1
            yield now.total / now.done
            if recipe.checkpoint_steps and now.step % recipe.checkpoint_steps == 0 and now.done < self.per_epoch:
                self._checkpoint()

    def _prepared(self, batches: Sequence[Sequence[Any]]) -> Iterator[list[tuple[float, Batch]]]:
        """Of each batch this process's rows, in `accumulate` parts, each with its weight in the batch's mean.

        Processes talk with each other in every part, so all have as many; one that has no row left takes another's,
        which does not count.
        """
        count, index = self.accelerator.num_processes, self.accelerator.process_index

        def prepare(one: list[Sequence[Any]]) -> list[tuple[float, Batch]]:
            batch = one[0]
            longest = math.ceil(len(batch) / count)
            size = math.ceil(longest / self.recipe.accumulate)
            parts = [list(batch[index::count][at : at + size]) for at in range(0, longest, size)]
            return [(len(part) * count / len(batch), self.task.collate(part or [batch[0]])) for part in parts]

        def told(one: list[Sequence[Any]]) -> list[tuple[float, Batch]] | NamepinError:
            try:
                return prepare(one)
            except NamepinError as error:  # raised in a worker, it would reach us as another one
                return error

        order: Any = list(batches)
        for parts in DataLoader(order, batch_size=1, collate_fn=told, num_workers=self.recipe.workers):
            if isinstance(parts, NamepinError):
                raise parts
            yield parts

    def _step(self, parts: Sequence[tuple[float, Batch]]) -> float:
        """One step of the optimiser; returns the batch's mean loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.lr * self._schedule()
        total = torch.zeros((), device=self.accelerator.device)
        for weight, batch in parts:
            here = {key: _moved(value, self.accelerator.device) for key, value in batch.items()}
            loss = self.objective(here) * weight
            self.accelerator.backward(loss)
            total += loss.detach().float()
        mean = float(self.accelerator.reduce(total, "mean"))
        self._finite("the loss is", mean)
        norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), self.recipe.clip)
        if self.recipe.precision != "fp16":  # whose scaler leaves out such a step
            self._finite("the gradient's norm is", float(whole(norm)))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.recipe.report_to != "none":
            self.accelerator.log({"loss": mean, "lr": self.optimiser.param_groups[0]["lr"]}, step=self.now.step + 1)
        return mean

    def _finite(self, what: str, value: float) -> None:
        see_finite(f"{what} {value} at step {self.now.step + 1}, of epoch {self.now.epoch + 1}", value, self.out)

    def _schedule(self) -> float:
        """Linear warm-up and decay, as a share of the peak rate."""
        step, total = self.now.step, self.per_epoch * self.recipe.epochs
        warm = int(total * self.recipe.warmup)
        return (step + 1) / (warm + 1) if step < warm else (total - step) / (total - warm)

    def _evaluate(self) -> None:
        """Score the net on dev, keep it where it is the best so far, and end the epoch."""
        now = self.now
        self.objective.eval()
        with torch.inference_mode(), callable_in_parts(self.objective):
            scores = self.task.score()
        (scores,) = broadcast_object_list([scores])  # processes that disagree in a last bit would part here
        score = next(iter(scores.values()))
        row = {"epoch": now.epoch + 1, "loss": now.total / now.done, "score": score, **scores}
        self.history.append({key: round(value, 6) for key, value in row.items()})
        if self.recipe.report_to != "none":
            self.accelerator.log({f"dev/{key}": value for key, value in scores.items()}, step=now.step)
        better = score > now.best
        self.now = Progressed(now.epoch + 1, now.step, best=max(score, now.best), stale=0 if better else now.stale + 1)
        if better:
            self._keep()
        self._checkpoint()

    def _keep(self) -> None:
        """Save the weights as they are, for the tool."""
        first = self.accelerator.is_main_process
        with gathered(self.task.net, keep=first):
            if first:
                see_weights_finite(self.task.net, self.out)
                with disk_errors(self.out), whole_folder(self.out / "weights") as folder:
                    self.task.save(folder)
                    write_manifest(folder, self.recipe, self.task.name, self.task.data, self.history)

    def _checkpoint(self) -> None:
        state = {
            "settings": settings_of(self.recipe),
            "data": dict(self.task.data),
            "now": asdict(self.now),
            "history": self.history,
            "net": trained(self.task.net),
            "optimiser": whole_states(self.optimiser),
        }
        if self.accelerator.is_main_process:
            with disk_errors(self.out):
                write_checkpoint(self.out / CHECKPOINT, state)
        self.accelerator.wait_for_everyone()

    def _restore(self) -> None:
        """Go on from the checkpoint, where there is one."""
        state = read_checkpoint(self.out / CHECKPOINT, settings_of(self.recipe), data=self.task.data)
        if state is not None:
            put(self.task.net, state["net"])
            put_states(self.optimiser, state["optimiser"])
            self.now, self.history = Progressed(**state["now"]), state["history"]


def plain_settings(recipe: Training) -> dict[str, Any]:
    """A recipe's settings for the curves' files, which know numbers and words; lists are spelled out."""
    told = settings_of(recipe).items()
    return {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in told}


def _moved(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def decayed(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trainable parameters in two groups: matrices, which decay, and biases and norms, which do not."""
    trainable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
