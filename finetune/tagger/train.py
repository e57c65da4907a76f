"""Train the tagger: `namepin finetune tagger`.

A plain loop, not transformers' Trainer: the loss joins two CRFs and a pooled term over ragged targets, every epoch
draws its own augmentation, and what is evaluated and kept is a moving average of the weights.

Everything random is drawn from (seed, epoch), so that a run resumed after its last whole epoch equals one that never
stopped, on the same machine.
"""

import argparse
import dataclasses
import json
import math
import platform
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import TypeAdapter
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn

from namepin.finetune.loop.run_folder import (
    CHECKPOINT,
    disk_errors,
    made,
    read_checkpoint,
    see_finite,
    see_weights_finite,
    whole_folder,
    write_checkpoint,
    write_manifest,
)
from namepin.finetune.tagger.data import Batcher, Example, Targets, by_length, mention_pool, read_ccby, swap_mentions
from namepin.finetune.tagger.recipe import TaggerRecipe, data_root, load_data, spec_of
from namepin.finetune.tagger.steps import (
    MovingAverage,
    co_occurrence,
    freeze_tables,
    parameter_groups,
    put,
    tagger_loss,
    trained,
)
from namepin.tools.base import file_sha256
from namepin.tools.errors import in_one_line
from namepin.tools.interfaces import TagRequest
from namepin.tools.knowledge.chat import RECORDED_STYLE
from namepin.tools.loading.encoder import load_encoder, read_safetensors
from namepin.tools.media import Media
from namepin.tools.nets.dual_tagger import TaggerBatch, transition_matrix
from namepin.tools.tagger.adapter import ADAPTER_FILE, Manifest, build_net, save_adapter
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger
from namepin.tools.tagger.rows import RowBuilder

FREE = ("out", "data", "threads", "cpu")
"""Settings that a resumed run may change."""


def span_f1(tagger: DualTagger, examples: Sequence[Example], informed: bool) -> float:
    """Micro F1 of spans with their coarse type."""
    requests = [
        TagRequest(text=" ".join(e.words), tokens=e.words, knowledge=e.knowledge if informed else None)
        for e in examples
    ]
    right = found = gold = 0
    for example, tags in zip(examples, tagger.run(requests, Media()), strict=True):
        said = {(*m.token_span, m.label) for m in tags.mentions}
        true = {(s.start, s.end, tagger.spec.to_coarse4(s.coarse)) for s in example.spans}
        right, found, gold = right + len(said & true), found + len(said), gold + len(true)
    return 2 * right / max(found + gold, 1)


def mean_score(row: Mapping[str, float]) -> float:
    """What epochs are chosen by: the mean of dev F1 without and, where it is measured, with knowledge."""
    scores = [value for key, value in row.items() if key.startswith("dev_f1")]
    return sum(scores) / len(scores)


class TaggerTraining:
    """One run: the net, its optimiser and average, and the steps to take."""

    def __init__(self, recipe: TaggerRecipe) -> None:
        torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.recipe, self.spec = recipe, spec_of(recipe)
        self.device = torch.device("cuda" if torch.cuda.is_available() and not recipe.cpu else "cpu")
        self.out = Path(recipe.out)
        made(self.out)
        root = data_root(recipe)
        self.train, self.dev, self.data_hashes = load_data(root, recipe)
        self.ccby = read_ccby(root / "ccby") if recipe.ccby_epochs else []
        self.pool = mention_pool(self.train)
        encoder = load_encoder(recipe.encoder)
        self.encoder_sha256 = encoder.sha256
        # Eager attention: on CPUs, bfloat16 backward through the fused kernel is several times slower.
        encoder.model.set_attn_implementation("eager")
        for module in encoder.model.modules():
            # Its random masks are a tenth of the time, and dropout on the layers' outputs remains.
            if module.__class__.__name__.endswith("SelfAttention") and hasattr(module, "dropout"):
                module.dropout.p = 0.0
        self.net = build_net(self.spec, encoder.model)
        freeze_tables(self.net)
        if self.net.fine is not None:
            with torch.no_grad():
                self.net.transition.copy_(transition_matrix(co_occurrence(self.train, self.spec)))
        if recipe.start:
            file = Path(recipe.start) / ADAPTER_FILE
            put(self.net, {name: value.float() for name, value in read_safetensors(file).items()})
            self.data_hashes["start"] = file_sha256(file)
        self.net.to(self.device)
        self.builder = RowBuilder(encoder.tokenizer, self.spec.input)
        self.batcher = Batcher(self.builder, self.spec)
        self.average = MovingAverage(self.net, recipe.ema)
        groups = parameter_groups(
            self.net,
            lr_encoder=recipe.lr_encoder,
            lr_heads=recipe.lr_heads,
            layer_decay=recipe.layer_decay,
            weight_decay=recipe.weight_decay,
        )
        self.optimiser = torch.optim.AdamW(groups)
        self.peak_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.epoch, self.step, self.best, self.stale = 0, 0, -1.0, 0
        self.loss, self.seconds = 0.0, 0.0
        self.history: list[dict[str, float]] = []
        per_epoch = -(-int(len(self.train) * (1 + recipe.knowledge)) // recipe.batch_size)
        self.ccby_steps = recipe.ccby_epochs * -(-len(self.ccby) // recipe.batch_size)
        self.total_steps = self.ccby_steps + recipe.epochs * per_epoch

    def run(self, resume: bool) -> None:
        """Train to the end, or until the dev score stops rising."""
        if resume:
            self._restore()
        epochs = self.recipe.ccby_epochs + self.recipe.epochs
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, TimeRemainingColumn(compact=True)) as bar:
            task = bar.add_task("tagger", total=self.total_steps, completed=self.step)
            while self.epoch < epochs and self.stale < self.recipe.patience:
                self._epoch(bar, task)
                self.epoch += 1
                if self.epoch >= self.recipe.ccby_epochs:
                    self._evaluate()
                    bar.console.print_json(json.dumps(self.history[-1]), indent=None)
                self._checkpoint()

    def _epoch(self, bar: Progress, task: TaskID) -> None:
        rng = random.Random(f"{self.recipe.seed}/{self.epoch}")
        torch.manual_seed(rng.getrandbits(32))
        first_stage = self.epoch < self.recipe.ccby_epochs
        if self.epoch == self.recipe.ccby_epochs:
            # The second stage starts its own average and warm-up.
            self.average = MovingAverage(self.net, self.recipe.ema)
        items = [(e, False) for e in self.ccby] if first_stage else self._items(rng)
        self.net.train()
        began, losses = time.perf_counter(), []
        for part in by_length(items, self.recipe.batch_size, rng, self.recipe.knowledge_pieces):
            losses.append(self._update(part, rng))
            recent = sum(losses[-50:]) / len(losses[-50:])
            bar.update(task, advance=1, description=f"epoch {self.epoch + 1}, loss {recent:.3f}")
        self.seconds, self.loss = time.perf_counter() - began, sum(losses) / len(losses)

    def _items(self, rng: random.Random) -> list[tuple[Example, bool]]:
        bare = [(self._augment(example, rng), False) for example in self.train]
        informed = rng.sample(self.train, int(len(self.train) * self.recipe.knowledge))
        return bare + [(example, True) for example in informed]

    def _augment(self, example: Example, rng: random.Random) -> Example:
        if self.recipe.swap:
            example = swap_mentions(example, self.pool, rng, self.recipe.swap)
        if rng.random() < self.recipe.lower:
            example = dataclasses.replace(example, words=tuple(word.lower() for word in example.words))
        return example

    def _update(self, part: Sequence[tuple[Example, bool]], rng: random.Random) -> float:
        """One step of the optimiser, on a batch in `accumulate` parts; returns the batch's loss."""
        size = math.ceil(len(part) / self.recipe.accumulate)
        parts = [self.batcher.batch(part[at : at + size]) for at in range(0, len(part), size)]
        known = max(1, sum(len(targets.spans) for _, targets in parts))
        for group, rate in zip(self.optimiser.param_groups, self.peak_rates, strict=True):
            group["lr"] = rate * self._schedule()
        self.optimiser.zero_grad(set_to_none=True)
        value = 0.0
        for batch, targets in parts:
            share = len(batch.piece_ids) / len(part)
            loss = share * self._loss(batch, targets, self.recipe.pooled * (len(targets.spans) / known / share))
            loss.backward()
            value += float(loss.detach())
        at = f"at step {self.step + 1}, of epoch {self.epoch + 1}"
        see_finite(f"the loss is {value} {at}", value, self.out)
        learnt = [p for p in self.net.parameters() if p.grad is not None]
        norm = float(nn.utils.clip_grad_norm_(learnt, self.recipe.clip))
        see_finite(f"the gradient's norm is {norm} {at}", norm, self.out)
        self.optimiser.step()
        self.average.update(self.net)
        self.step += 1
        return value

    def _loss(self, batch: TaggerBatch, targets: Targets, pooled: float) -> Tensor:
        """The mean loss of a part of a batch, with some of its word pieces hidden."""
        recipe = self.recipe
        if recipe.hide:
            hidden = (torch.rand(batch.piece_ids.shape) < recipe.hide) & (batch.piece_shapes[:, :, 0] > 0)
            mask_id = getattr(self.builder.tokenizer, "mask_token_id", None) or self.builder.unknown
            batch.piece_ids.masked_fill_(hidden, mask_id)
        batch, targets = batch.to(self.device), targets.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.bf16):
            words = self.net.encode(batch)
        logits = self.net.paths(words.float())
        return tagger_loss(self.net, logits, batch.word_mask, targets, alpha=recipe.alpha, pooled=pooled)

    def _schedule(self) -> float:
        """Linear warm-up and decay, once for each stage."""
        step, total = self.step, self.ccby_steps
        if step >= self.ccby_steps:
            step, total = step - self.ccby_steps, self.total_steps - self.ccby_steps
        warm = max(1, int(total * self.recipe.warmup))
        return (step + 1) / warm if step < warm else max(0.02, (total - step) / max(1, total - warm))

    def _evaluate(self) -> None:
        """Score the averaged weights on dev; keep them where they are the best so far."""
        raw = {name: p.detach().clone() for name, p in trained(self.net).items()}
        put(self.net, self.average.values)
        self.net.eval()
        manifest = Manifest(spec=self.spec, encoder_sha256="", weights_sha256="")
        spans: Literal["coarse", "fine"] = "coarse" if self.recipe.alpha else "fine"
        config = TaggerConfig(batch_size=32, spans=spans, device=str(self.device))
        tagger = DualTagger.of(self.net, self.builder, manifest, config)
        scores = {"dev_f1": span_f1(tagger, self.dev, informed=False)}
        if self.recipe.knowledge:
            scores["dev_f1_knowledge"] = span_f1(tagger, self.dev, informed=True)
        row = {"epoch": self.epoch, "loss": self.loss, "seconds": self.seconds, **scores}
        self.history.append({key: round(value, 4) for key, value in row.items()})
        self.stale += 1
        if mean_score(scores) > self.best:
            self.best, self.stale = mean_score(scores), 0
            self._keep()
        put(self.net, raw)

    def _keep(self) -> None:
        """Save the weights as they are, for the tool, with the manifest and the model card that every recipe writes."""
        style = RECORDED_STYLE if self.recipe.knowledge else None
        told = ({**row, "score": mean_score(row)} for row in self.history)
        history = [{key: value for key, value in row.items() if key != "seconds"} for row in told]
        see_weights_finite(self.net, self.out)
        with disk_errors(self.out), whole_folder(self.out / "adapter") as folder:
            save_adapter(folder, trained(self.net), self.spec, self.encoder_sha256, style, self.record())
            write_manifest(folder, self.recipe, "tagger", self.data_hashes, history)

    def record(self) -> dict[str, Any]:
        """What the manifest says about the run."""
        import transformers

        settings = {k: v for k, v in dataclasses.asdict(self.recipe).items() if k not in ("data", "out", "start")}
        return {
            "recipe": settings,
            "data_sha256": self.data_hashes,
            "history": self.history,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }

    def _checkpoint(self) -> None:
        """Everything that a resumed run needs."""
        state = {
            "settings": dataclasses.asdict(self.recipe),
            "data": self.data_hashes,
            "epoch": self.epoch,
            "step": self.step,
            "best": self.best,
            "stale": self.stale,
            "history": self.history,
            "net": trained(self.net),
            "average": self.average.values,
            "average_steps": self.average.steps,
            "optimiser": self.optimiser.state_dict(),
        }
        with disk_errors(self.out):
            write_checkpoint(self.out / CHECKPOINT, state)

    def _restore(self) -> None:
        """Go on from the checkpoint, where there is one."""
        settings = dataclasses.asdict(self.recipe)
        state = read_checkpoint(self.out / CHECKPOINT, settings, free=FREE, data=self.data_hashes)
        if state is None:
            return
        put(self.net, state["net"])
        self.average.values = {name: value.to(self.device) for name, value in state["average"].items()}
        self.average.steps = state["average_steps"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.epoch, self.step, self.best = state["epoch"], state["step"], state["best"]
        self.stale, self.history = state["stale"], state["history"]


RECIPES = {"dual": TaggerRecipe}


def train(recipe: TaggerRecipe, resume: bool = False) -> dict[str, Any]:
    """Run the recipe; the best epoch's adapter is then in `out/adapter`. Returns its dev scores and where it is."""
    training = TaggerTraining(recipe)
    training.run(resume)
    best = max(training.history, key=lambda row: mean_score(row), default={})
    return {**best, "adapter": str(training.out / "adapter")}


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m namepin.finetune.tagger.train`: one flag per setting; `namepin finetune tagger` is more convenient."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resume", action="store_true", help="go on after the last finished epoch")
    for setting in dataclasses.fields(TaggerRecipe):
        parser.add_argument(f"--{setting.name}", help=f"default: {setting.default}")
    given = {key: value for key, value in vars(parser.parse_args(argv)).items() if value is not None}
    resume = given.pop("resume")
    train(TypeAdapter(TaggerRecipe).validate_python(given), resume)


if __name__ == "__main__":
    with in_one_line():
        main()
