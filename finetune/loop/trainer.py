"""The loop that all recipes share, on accelerate.

A recipe brings a `Task`: the net that its tool loads, rows, a loss and a dev score. The loop adds mixed precision,
accumulation, several processes, the schedule of the learning rates, a moving average of the weights, early stopping,
checkpoints, the manifest and the model card.

Rows, order and dropout are drawn from (seed, epoch, step). A run resumed after `kill -9` therefore takes the same steps
as an undisturbed run. A checkpoint is one file, moved into place when complete, so a half-written checkpoint is
never loaded.
"""

import json
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, broadcast_object_list
from torch import nn
from torch.utils.data import DataLoader

from namepin.finetune.loop.fsdp import (
    callable_in_parts,
    full_states,
    gather_parameters,
    load_states,
    set_up_fsdp,
    whole,
)
from namepin.finetune.loop.moving_average import MovingAverage
from namepin.finetune.loop.progress import ProgressReport
from namepin.finetune.loop.run_folder import (
    CHECKPOINT,
    KEPT_EPOCH,
    all_trained_posts,
    disk_errors,
    ensure_writable,
    load_tensors,
    read_checkpoint,
    require_finite,
    require_finite_weights,
    settings_of,
    trained_tensors,
    whole_folder,
    write_checkpoint,
    write_manifest,
)
from namepin.finetune.loop.settings import LoopSettings
from namepin.finetune.loop.task import Batch, Objective, Task
from namepin.finetune.loop.trackers import require_tracker
from namepin.tools.errors import NamepinError


@dataclass
class Position:
    """Progress of a run.

    Attributes:
        epoch: number of the epoch, from 0.
        step: number of steps taken in the run.
        done: number of steps taken in the current epoch.
        total: sum of their losses.
        best: the best dev score so far.
        stale: epochs since the best one.
    """

    epoch: int = 0
    step: int = 0
    done: int = 0
    total: float = 0.0
    best: float = -math.inf
    stale: int = 0


class Run:
    """One run of a recipe."""

    def __init__(self, recipe: LoopSettings, task: Task) -> None:
        self.recipe, self.task, self.out = recipe, task, Path(recipe.out)
        require_tracker(recipe.report_to)
        logs = None if recipe.report_to == "none" else recipe.report_to
        AcceleratorState._reset_state()  # else it keeps the precision of this process's first run
        self.accelerator = Accelerator(
            mixed_precision=recipe.precision,
            cpu=recipe.cpu,
            log_with=logs,
            project_dir=str(self.out / "logs"),
            # Heads that a loss does not use, such as BLIP's projections, get no gradient.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
        set_up_fsdp(self.accelerator)
        if recipe.gradient_checkpointing:
            compute_activations_twice(task.net, task.name)
        self.per_epoch = self._batches(task.rows(random.Random(0)))
        self.pretraining_steps = 0
        if task.pretraining_epochs:
            self.pretraining_steps = task.pretraining_epochs * self._batches(task.pretraining_rows(random.Random(0)))
        self.epochs = task.pretraining_epochs + recipe.epochs
        self.steps_in_all = self.pretraining_steps + recipe.epochs * self.per_epoch
        self.now, self.history = Position(), list[dict[str, float]]()
        groups = recipe.parameter_groups(task.net)
        self.peak_rates = [float(group["lr"]) for group in groups]
        self.objective, self.optimiser = self.accelerator.prepare(Objective(task), torch.optim.AdamW(groups))
        self.average = self._new_average()

    def _batches(self, rows: Sequence[Any]) -> int:
        if not rows:
            raise NamepinError("E139", "there are no rows to train on", mend="use another split")
        return math.ceil(len(rows) / self.recipe.batch_size)

    def _new_average(self) -> MovingAverage | None:
        return MovingAverage(self.task.net, self.recipe.ema) if self.recipe.ema else None

    def run(self, resume: bool) -> dict[str, Any]:
        """Train to the end or until the dev score stops rising. The best epoch's weights are then in `out/weights`.

        Returns:
            The best epoch's row of the history, and the path of the weights.

        Raises:
            NamepinError: E205 a resume with another configuration or other data, E220 a loss or gradient that is not
                finite, E500 a disk that cannot be written.
        """
        ensure_writable(self.out)
        if resume:
            self._restore()
        if self.recipe.report_to != "none":
            logs = self.out / "logs"
            logs.mkdir(exist_ok=True)
            place = {"wandb": {"dir": str(logs)}}  # TensorBoard gets the folder from the accelerator
            self.accelerator.init_trackers("namepin", config=plain_settings(self.recipe), init_kwargs=place)
        quiet = not self.accelerator.is_main_process
        with ProgressReport(self.task.name, self.steps_in_all, self.now.step, quiet=quiet) as progress:
            while self.now.epoch < self.epochs and self.now.stale < self.recipe.patience:
                self._epoch_to_its_end(progress)
        self.accelerator.end_training()
        best = max(self.history, key=lambda row: row["score"])
        return {**best, "weights": str(self.out / self.task.folder)}

    def _epoch_to_its_end(self, progress: ProgressReport) -> None:
        at = f"epoch {self.now.epoch + 1} of {self.epochs}"
        for mean in self._epoch():
            progress.step(f"{at}, loss {mean:.4f}")
        if self.now.epoch < self.task.pretraining_epochs:
            self.now = Position(self.now.epoch + 1, self.now.step)
            self._checkpoint()
            return
        if not hasattr(self.objective, "unshard"):  # FSDP cannot score before it has taken a step
            self._checkpoint()  # a damaged dev picture or a full disk must not lose the epoch
        progress.note(f"{at}, scoring dev")
        self._evaluate()
        progress.row(self.history[-1])

    def steps(self, count: int) -> Iterator[float]:
        """The mean losses of an epoch's first steps, to try out a recipe; nothing is written."""
        return islice(self._epoch(), count)

    def _epoch(self) -> Iterator[float]:
        """Take the remaining steps of the current epoch; yields its mean loss so far."""
        recipe, now, task = self.recipe, self.now, self.task
        rng = random.Random(f"{recipe.seed}/{now.epoch}")
        rows = task.pretraining_rows(rng) if now.epoch < task.pretraining_epochs else task.rows(rng)
        batches = [rows[at : at + recipe.batch_size] for at in range(0, len(rows), recipe.batch_size)]
        if now.epoch == task.pretraining_epochs and not now.done:
            self.average = self._new_average()
        self.objective.train()
        for parts in self._prepare(batches[now.done :]):
            seed = random.Random(f"{recipe.seed}/{now.epoch}/{now.done}/{self.accelerator.process_index}")
            torch.manual_seed(seed.getrandbits(63))
            now.total += self._step(parts)
            now.step, now.done = now.step + 1, now.done + 1
            yield now.total / now.done
            if recipe.checkpoint_steps and now.step % recipe.checkpoint_steps == 0 and now.done < len(batches):
                self._checkpoint()

    def _prepare(self, batches: Sequence[Sequence[Any]]) -> Iterator[list[tuple[float, Batch]]]:
        """This process's rows of each batch, in `accumulate` parts, each with its weight in the batch's mean.

        Processes communicate in every part, so all have the same number of parts. A process that has no row left
        computes a row of another process with weight 0.
        """
        count, index = self.accelerator.num_processes, self.accelerator.process_index

        def prepare(one: list[Sequence[Any]]) -> list[tuple[float, Batch]]:
            batch = one[0]
            longest = math.ceil(len(batch) / count)
            size = math.ceil(longest / self.recipe.accumulate)
            parts = [list(batch[index::count][at : at + size]) for at in range(0, longest, size)]
            return [(len(part) * count / len(batch), self.task.collate(part or [batch[0]])) for part in parts]

        def prepare_or_error(one: list[Sequence[Any]]) -> list[tuple[float, Batch]] | NamepinError:
            try:
                return prepare(one)
            except NamepinError as error:  # DataLoader would raise another type of error
                return error

        order: Any = list(batches)
        for parts in DataLoader(order, batch_size=1, collate_fn=prepare_or_error, num_workers=self.recipe.workers):
            if isinstance(parts, NamepinError):
                raise parts
            yield parts

    def _step(self, parts: Sequence[tuple[float, Batch]]) -> float:
        """One step of the optimiser; returns the batch's mean loss."""
        share = self._rate()
        for group, peak in zip(self.optimiser.param_groups, self.peak_rates, strict=True):
            group["lr"] = peak * share
        total = torch.zeros((), device=self.accelerator.device)
        for weight, batch in parts:
            here = {key: _move(value, self.accelerator.device) for key, value in batch.items()}
            loss = self.objective(here) * weight
            self.accelerator.backward(loss)
            total += loss.detach().float()
        mean = float(self.accelerator.reduce(total, "mean"))
        self._finite("the loss is", mean)
        norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), self.recipe.clip)
        if self.recipe.precision != "fp16":  # the scaler of fp16 skips such a step
            self._finite("the gradient's norm is", float(whole(norm)))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.task.net)
        if self.recipe.report_to != "none":
            self.accelerator.log({"loss": mean, "lr": max(self.peak_rates) * share}, step=self.now.step + 1)
        return mean

    def _finite(self, what: str, value: float) -> None:
        require_finite(f"{what} {value} at step {self.now.step + 1}, of epoch {self.now.epoch + 1}", value, self.out)

    def _rate(self) -> float:
        """The current step's learning rate, as a share of the peak; pretraining has a schedule of its own."""
        before = self.pretraining_steps
        if self.now.step < before:
            return self.recipe.rate(self.now.step, before)
        return self.recipe.rate(self.now.step - before, self.steps_in_all - before)

    def _evaluate(self) -> None:
        """Score the net on dev, save it if it is the best so far, and end the epoch."""
        with self.average.in_place_of(self.task.net) if self.average else nullcontext():
            if self._score():
                self._keep(self.out / self.task.folder)
            if self.now.epoch == self.task.kept_epoch:
                self._keep(self.out / KEPT_EPOCH)
        self._checkpoint()

    def _score(self) -> bool:
        """Score the net on dev and add a row to the history; returns whether it is the best epoch so far."""
        now = self.now
        self.objective.eval()
        with torch.inference_mode(), callable_in_parts(self.objective):
            scores = self.task.score()
        (scores,) = broadcast_object_list([scores])  # else a last bit decides when each process stops
        score: float = next(iter(scores.values()))
        row = {"epoch": now.epoch + 1, "loss": now.total / now.done, "score": score, **scores}
        self.history.append({key: round(value, 6) for key, value in row.items()})
        if self.recipe.report_to != "none":
            self.accelerator.log({f"dev/{key}": value for key, value in scores.items()}, step=now.step)
        better = bool(score > now.best)
        self.now = Position(now.epoch + 1, now.step, best=max(score, now.best), stale=0 if better else now.stale + 1)
        return better

    def _keep(self, place: Path) -> None:
        """Save the current weights for the tool."""
        first, self.task.history = self.accelerator.is_main_process, self.history
        with gather_parameters(self.task.net, keep=first):
            if first:
                require_finite_weights(self.task.net, self.out)
                with disk_errors(self.out), whole_folder(place) as folder:
                    self.task.save(folder)
                    trained = all_trained_posts(self.recipe, self.task.trained_posts)
                    write_manifest(folder, self.recipe, self.task.name, self.task.data, self.history, trained)

    def _checkpoint(self) -> None:
        state = {
            "settings": settings_of(self.recipe),
            "data": dict(self.task.data),
            "now": asdict(self.now),
            "history": self.history,
            "net": trained_tensors(self.task.net),
            "optimiser": full_states(self.optimiser),
            "average": self.average.state() if self.average else None,
        }
        if self.accelerator.is_main_process:
            with disk_errors(self.out):
                write_checkpoint(self.out / CHECKPOINT, state)
        self.accelerator.wait_for_everyone()

    def _restore(self) -> None:
        """Resume from the checkpoint, if there is one."""
        state = read_checkpoint(self.out / CHECKPOINT, settings_of(self.recipe), data=self.task.data)
        if state is not None:
            if "now" not in state:
                what, mend = "the checkpoint is of an older release", "start again in another `out`"
                raise NamepinError("E205", what, where=str(self.out / CHECKPOINT), mend=mend)
            load_tensors(self.task.net, state["net"])
            load_states(self.optimiser, state["optimiser"])
            self.now, self.history = Position(**state["now"]), state["history"]
            if self.average and state.get("average"):
                self.average.restore(state["average"], self.task.net)


def compute_activations_twice(net: nn.Module, name: str) -> None:
    """Let a net, or the transformers nets that are its direct parts, drop activations and compute them again.

    Args:
        net: the net to train.
        name: name of the tool, for the error.

    Raises:
        NamepinError: E217 when no part of the net supports this.
    """
    found = False
    for part in (net, *net.children()):
        # transformers' name since 5.23, then the older one
        enable: Any = getattr(part, "activation_checkpointing_enable", None)
        enable = enable or getattr(part, "gradient_checkpointing_enable", None)
        if enable is not None and getattr(part, "supports_gradient_checkpointing", True):
            enable()
            found = True
            if part is net:
                break
    if not found:
        what = f"{name}: this net cannot compute its activations twice"
        raise NamepinError("E217", what, mend="set gradient_checkpointing to false")


def plain_settings(recipe: LoopSettings) -> dict[str, Any]:
    """A recipe's settings as numbers and strings, for the files of curves; lists become strings."""
    settings = settings_of(recipe).items()
    return {key: json.dumps(value) if isinstance(value, list | dict) else value for key, value in settings}


def _move(value: Any, device: torch.device) -> Any:
    """A tensor, or a dataclass of tensors, moved to a device; other values are returned unchanged."""
    return value.to(device) if hasattr(value, "to") else value
