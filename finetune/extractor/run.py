"""One run of the extractor on trl: checkpoints, dev scores, the best adapter, progress.

trl's trainers take the steps. This module keeps what the other recipes promise: a run resumed after `kill -9` takes the
same steps, with the same settings and data only; the adapter with the best dev score lies in `out/weights`.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from namepin.evals.overlap import TrainedPosts
from namepin.finetune.extractor.model import ExtractorModel
from namepin.finetune.extractor.rows import Examples
from namepin.finetune.loop.progress import ProgressReport
from namepin.finetune.loop.run_folder import (
    all_trained_posts,
    disk_errors,
    require_finite,
    require_same_run,
    settings_of,
    whole_folder,
    write_manifest,
)
from namepin.tools.files import atomic_write
from namepin.tools.jsonl import dump_json, parse_json

TASK = "extractor"
STATE = "namepin-run.json"
"""File of a checkpoint, written last: a folder without it is incomplete."""

Score = Callable[[], dict[str, float]]
"""Scores the net on dev; the first score chooses the best epoch."""


@dataclass
class Progressed:
    """What a checkpoint keeps beside trl's own state.

    Attributes:
        history: the scores of the epochs so far.
        stale: epochs since the best one.
        unscored: whether an epoch is complete but not yet scored.
        sums: sums of the epoch's logged values.
        logs: number of them.
    """

    history: list[dict[str, float]] = field(default_factory=list)
    stale: int = 0
    unscored: bool = False
    sums: dict[str, float] = field(default_factory=dict)
    logs: dict[str, int] = field(default_factory=dict)


class ExtractorRun(TrainerCallback):
    """Follows a trainer through its run."""

    def __init__(
        self,
        model: ExtractorModel,
        examples: Examples,
        data: Mapping[str, str],
        trained: TrainedPosts,
        score: Score,
        main: bool = True,
    ) -> None:
        """Keep the parts of the run.

        Args:
            model: the trained net.
            examples: the training posts.
            data: sha256 of the data's files.
            trained: the record of the training posts.
            score: scores the net on dev.
            main: whether this process writes files and prints.
        """
        self.model, self.examples, self.data, self.trained, self._score_dev = model, examples, data, trained, score
        self.recipe, self.out, self.main = model.recipe, Path(model.recipe.out), main
        self.now = Progressed()
        self.progress: ProgressReport | None = None

    def resume_from(self) -> str | None:
        """The last complete checkpoint, whose history is then this run's; None before the first.

        Raises:
            NamepinError: E205 when the run began with other settings or data.
        """
        found = [path.parent for path in (self.out / "checkpoints").glob(f"checkpoint-*/{STATE}")]
        if not found:
            return None
        last = max(found, key=lambda folder: int(folder.name.rpartition("-")[2]))
        state = parse_json((last / STATE).read_text("utf-8"))
        require_same_run(state, last / STATE, settings_of(self.recipe), self.data)
        self.now = Progressed(**state["now"])
        return str(last)

    @property
    def ended(self) -> bool:
        """Whether the run that is resumed had stopped early."""
        return self.now.stale >= self.recipe.patience and not self.now.unscored

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the progress, and score an epoch that was killed while it was scored."""
        self.progress = ProgressReport(TASK, state.max_steps, state.global_step, quiet=not self.main)
        self.progress.__enter__()
        if self.now.unscored:
            self._score_epoch(state, control)
            self._write_state(state)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Perturb the boxes again."""
        self.examples.epoch = int((state.epoch or 0) + 1e-6)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint within the epoch, where the recipe wants them."""
        if self.recipe.checkpoint_steps and state.global_step % self.recipe.checkpoint_steps == 0:
            control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        """Add a step's loss and rewards to the epoch's sums.

        Raises:
            NamepinError: E220 for a loss or gradient that is not finite.
        """
        logs: Mapping[str, Any] = given["logs"]
        if "loss" not in logs:
            return  # the run's last log
        for name, what in (("loss", "the loss is"), ("grad_norm", "the gradient's norm is")):
            if name in logs and not (name == "grad_norm" and self.recipe.precision == "fp16"):
                value = float(logs[name])
                require_finite(f"{what} {value} at step {state.global_step}", value, self.out)
        for name, value in logs.items():
            short = _short(name)
            if short and value is not None and value == value:  # no post of the step may have asked for a reward
                self.now.sums[short] = self.now.sums.get(short, 0.0) + float(value)
                self.now.logs[short] = self.now.logs.get(short, 0) + 1
        if self.progress:
            means = self._means()
            shown = ", ".join(f"{name} {means[name]:.4f}" for name in ("loss", "reward") if name in means)
            self.progress.step(f"epoch {int(state.epoch - 1e-6) + 1} of {self.recipe.epochs}, {shown}")

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for a checkpoint before dev is scored: a damaged dev picture must not lose the epoch."""
        control.should_save = self.now.unscored = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Complete a checkpoint; at an epoch's end, score dev."""
        self._write_state(state)
        if self.now.unscored:
            self._score_epoch(state, control)
            self._write_state(state)

    def close(self) -> None:
        """End the progress bar."""
        if self.progress:
            self.progress.__exit__()

    def report(self) -> dict[str, Any]:
        """The best epoch's row of the history, and the path of the weights."""
        best = max(reversed(self.now.history), key=lambda row: row["score"])
        return {**best, "weights": str(self.out / "weights")}

    def _means(self) -> dict[str, float]:
        return {name: self.now.sums[name] / self.now.logs[name] for name in self.now.sums}

    def _score_epoch(self, state: Any, control: Any) -> None:
        if self.progress:
            self.progress.note("scoring dev")
        net = self.model.net
        net.eval()
        with torch.inference_mode():
            scores = self._score_dev()
        net.train()
        score = next(iter(scores.values()))
        best = max((row["score"] for row in self.now.history), default=float("-inf"))
        row = {"epoch": len(self.now.history) + 1.0, **self._means(), "score": score, **scores}
        self.now.history.append({name: round(value, 6) for name, value in row.items()})
        self.now.stale = 0 if score > best else self.now.stale + 1
        self.now.sums.clear()
        self.now.logs.clear()
        self.now.unscored = False
        if score >= best and self.main:  # of equal epochs the later one has learnt longer
            self._keep()
        if self.progress:
            self.progress.row(self.now.history[-1])
        if self.now.stale >= self.recipe.patience:
            control.should_training_stop = True

    def _keep(self) -> None:
        with disk_errors(self.out), whole_folder(self.out / "weights") as folder:
            self.model.save(folder, self.out)
            trained = all_trained_posts(self.recipe, self.trained)
            write_manifest(folder, self.recipe, TASK, self.data, self.now.history, trained)

    def _write_state(self, state: Any) -> None:
        if not self.main:
            return
        folder = self.out / "checkpoints" / f"checkpoint-{state.global_step}"
        kept = {"settings": settings_of(self.recipe), "data": dict(self.data), "now": asdict(self.now)}
        with disk_errors(self.out):
            atomic_write(folder / STATE, dump_json(kept, indent=1) + "\n")


def _short(name: str) -> str:
    """A logged value's name in the history: the loss, the reward, and the mean of each reward; empty for others."""
    if name.startswith("rewards/") and name.endswith("/mean"):
        return name.split("/")[1]
    return name if name in ("loss", "reward", "reward_std", "entropy", "kl", "mean_token_accuracy") else ""
