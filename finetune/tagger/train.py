"""Train the tagger: `namepin finetune tagger`.

The loss joins two CRFs and a pooled term over ragged targets. Every epoch draws its own augmentation. A moving average
of the weights is scored and saved.
"""

import dataclasses
import platform
import random
from collections.abc import Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from namepin.evals.overlap import KEY, TrainedPosts
from namepin.finetune.loop.run_folder import KEPT_EPOCH, ensure_writable, load_tensors, trained_tensors
from namepin.finetune.loop.task import Batch, Task
from namepin.finetune.loop.trainer import Run
from namepin.finetune.recipes.tagger import TaggerRecipe
from namepin.finetune.tagger.average import soup
from namepin.finetune.tagger.data import Batcher, Example, by_length, mention_pool, read_ccby, swap_mentions
from namepin.finetune.tagger.recipe import data_root, load_data, spec_of
from namepin.finetune.tagger.steps import add_lora, co_occurrence, drop_no_attention, freeze, tagger_loss
from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import TagRequest
from namepin.tools.knowledge.chat import RECORDED_STYLE
from namepin.tools.loading.encoder import load_encoder, read_safetensors
from namepin.tools.media import Media
from namepin.tools.nets.dual_tagger import DualTaggerNet, TaggerBatch, transition_matrix
from namepin.tools.tagger.adapter import ADAPTER_FILE, Manifest, build_net, save_adapter
from namepin.tools.tagger.config import TaggerConfig
from namepin.tools.tagger.dual import DualTagger
from namepin.tools.tagger.rows import RowBuilder


@dataclass(frozen=True)
class TaggerRow:
    """A training post.

    Attributes:
        example: the post.
        informed: whether the post is read with its knowledge.
        batch_rows: number of rows in its batch.
        batch_spans: number of mentions in its batch whose fine type is known, at least 1.
    """

    example: Example
    informed: bool
    batch_rows: int
    batch_spans: int


class TaggerTask(Task):
    """The tagger with its posts."""

    name = "tagger"
    folder = "adapter"
    net: DualTaggerNet

    def __init__(self, recipe: TaggerRecipe) -> None:
        """Load the data and the encoder.

        Raises:
            NamepinError: E130 to E139 data, E203 a scheme that the data set does not have, E210 to E213 weights.
        """
        torch.set_num_threads(recipe.threads)
        torch.manual_seed(recipe.seed)
        self.recipe, self.spec = recipe, spec_of(recipe)
        root = data_root(recipe)
        self.train, self.dev, self.data = load_data(root, recipe)
        self.pretraining_epochs, self.kept_epoch = recipe.ccby_epochs, recipe.mean_epoch
        self.ccby = read_ccby(root / "ccby") if recipe.ccby_epochs else []
        self.trained_posts = TrainedPosts.of((one.id, " ".join(one.words)) for one in (*self.train, *self.ccby))
        self.pool = mention_pool(self.train, recipe.swap_within)
        encoder = load_encoder(recipe.encoder)
        self.encoder_sha256 = encoder.sha256
        # Eager attention: on CPUs, bfloat16 backward through the fused kernel is several times slower.
        encoder.model.set_attn_implementation("eager")
        if not recipe.attention_dropout:
            drop_no_attention(encoder.model)
        self.net = build_net(self.spec, encoder.model)
        freeze(self.net, tables=recipe.freeze_embeddings, upper_layers=recipe.upper_layers)
        if recipe.lora:
            add_lora(self.net, recipe.lora)
        if self.net.fine is not None:
            with torch.no_grad():
                self.net.transition.copy_(transition_matrix(co_occurrence(self.train, self.spec), recipe.transition))
        if recipe.start:
            file = Path(recipe.start) / ADAPTER_FILE
            tensors = read_safetensors(file)
            require_same_parameters(self.net, tensors, file)
            load_tensors(self.net, {name: value.float() for name, value in tensors.items()})
            self.data["start"] = file_sha256(file)
        self.builder = RowBuilder(encoder.tokenizer, self.spec.input)
        self.batcher = Batcher(self.builder, self.spec)

    def rows(self, rng: random.Random) -> Sequence[TaggerRow]:
        """With `bare`, every post augmented and without knowledge; then a share of the posts with their knowledge."""
        bare = [(self._augment(example, rng), False) for example in self.train] if self.recipe.bare else []
        informed = rng.sample(self.train, int(len(self.train) * self.recipe.knowledge))
        return self._in_batches(bare + [(example, True) for example in informed], rng)

    def pretraining_rows(self, rng: random.Random) -> Sequence[TaggerRow]:
        """The CC-BY tweets, whose fine types are unknown."""
        return self._in_batches([(example, False) for example in self.ccby], rng)

    def _in_batches(self, items: Sequence[tuple[Example, bool]], rng: random.Random) -> list[TaggerRow]:
        """The rows in batch order; a batch has rows of similar length."""
        rows = []
        for batch in by_length(items, self.recipe.batch_size, rng, self.recipe.knowledge_pieces):
            known = sum(bool(span.fine) for example, _ in batch for span in example.spans)
            rows += [TaggerRow(example, informed, len(batch), max(1, known)) for example, informed in batch]
        return rows

    def _augment(self, example: Example, rng: random.Random) -> Example:
        if self.recipe.swap:
            example = swap_mentions(example, self.pool, rng, self.recipe.swap, self.recipe.swap_within)
        drawn = rng.random()
        if drawn < self.recipe.lower:
            example = dataclasses.replace(example, words=tuple(word.lower() for word in example.words))
        elif drawn < self.recipe.lower + self.recipe.upper:
            example = dataclasses.replace(example, words=tuple(word.upper() for word in example.words))
        return example

    def collate(self, rows: list[TaggerRow]) -> Batch:
        """The net's input, its targets, and the weight of the pooled term.

        The pooled term is a mean over the mentions of the whole batch; these rows may be a part of it.
        """
        inputs, targets = self.batcher.batch([(row.example, row.informed) for row in rows])
        share = len(targets.spans) / rows[0].batch_spans / (len(rows) / rows[0].batch_rows)
        return {"inputs": inputs, "targets": targets, "pooled": self.recipe.pooled * share}

    def loss(self, net: nn.Module, batch: Batch) -> Tensor:
        """Equation 8 and the pooled term, with some word pieces hidden from the encoder."""
        tagger: Any = net
        words = tagger.encode(self._hide(batch["inputs"]))
        with torch.autocast(words.device.type, enabled=False):
            logits = tagger.paths(words.float())
            mask, targets = batch["inputs"].word_mask, batch["targets"]
            return tagger_loss(tagger, logits, mask, targets, alpha=self.recipe.alpha, pooled=batch["pooled"])

    def _hide(self, inputs: TaggerBatch) -> TaggerBatch:
        """The batch with the mask token in place of some word pieces of the text."""
        if not self.recipe.hide:
            return inputs
        chosen = torch.rand(inputs.piece_ids.shape).to(inputs.piece_ids.device) < self.recipe.hide
        mask_id = getattr(self.builder.tokenizer, "mask_token_id", None) or self.builder.unknown
        pieces = inputs.piece_ids.masked_fill(chosen & (inputs.piece_shapes[:, :, 0] > 0), mask_id)
        return dataclasses.replace(inputs, piece_ids=pieces)

    def score(self) -> dict[str, float]:
        """The mean of dev F1 without and with knowledge, which chooses the epoch, then its parts.

        Posts are scored in the forms that training uses: without knowledge only if `bare`, with it only if `knowledge`.
        Where dev has gold fine types, the F1 of span and fine type counts as much as that of span and coarse type.
        """
        manifest = Manifest(spec=self.spec, encoder_sha256="", weights_sha256="")
        spans: Literal["coarse", "fine"] = "coarse" if self.recipe.alpha else "fine"
        device = str(next(self.net.parameters()).device)
        tagger = DualTagger.of(
            self.net, self.builder, manifest, TaggerConfig(batch_size=32, spans=spans, device=device)
        )
        scores: dict[str, float] = {}
        forms = {"": self.recipe.bare, "_knowledge": bool(self.recipe.knowledge)}
        for form in (name for name, used in forms.items() if used):
            with self._score_precision():
                coarse, fine = span_f1(tagger, self.dev, informed=form == "_knowledge")
            scores[f"dev_f1{form}"] = coarse
            if fine is not None:
                scores[f"dev_f1_fine{form}"] = fine
        return {"score": sum(scores.values()) / len(scores), **scores}

    def _score_precision(self) -> AbstractContextManager[object]:
        if self.recipe.score_in == "float32" or self.recipe.precision == "no":
            return nullcontext()
        half = torch.bfloat16 if self.recipe.precision == "bf16" else torch.float16
        return torch.autocast(next(self.net.parameters()).device.type, dtype=half)

    def save(self, folder: Path) -> None:
        """A folder for `tagger.adapter`."""
        style = RECORDED_STYLE if self.recipe.knowledge else None
        save_adapter(folder, trained_tensors(self.net), self.spec, self.encoder_sha256, style, self.record())

    def record(self) -> Mapping[str, Any]:
        """The entries of the adapter's manifest about the run."""
        import transformers

        settings = {k: v for k, v in dataclasses.asdict(self.recipe).items() if k not in ("data", "out", "start")}
        return {
            "recipe": settings,
            "data_sha256": self.data,
            "history": self.history,
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__,
                "transformers": transformers.__version__,
            },
        }


def require_same_parameters(net: nn.Module, tensors: Mapping[str, Tensor], file: Path) -> None:
    """Require that the tensors of an adapter are parameters of a net.

    Raises:
        NamepinError: E212 at the first one that is none, as in an adapter with LoRA for a net without it.
    """
    places = dict(net.named_parameters())
    for name, value in tensors.items():
        if name not in places or places[name].shape != value.shape:
            what = f"the recipe's net has no parameter {name} {tuple(value.shape)}"
            mend = "start from an adapter of the same recipe"
            raise NamepinError("E212", what, where=str(file), mend=mend)


def span_f1(tagger: DualTagger, examples: Sequence[Example], informed: bool) -> tuple[float, float | None]:
    """Micro F1 of span and coarse type, and of span and fine type, None where the gold fine types are not known."""
    requests = [
        TagRequest(text=" ".join(e.words), tokens=e.words, knowledge=e.knowledge if informed else None)
        for e in examples
    ]
    results = tagger.run(requests, Media())
    coarse = [{(*m.token_span, m.label) for m in tags.mentions} for tags in results]
    gold = [{(s.start, s.end, tagger.spec.to_coarse4(s.coarse)) for s in e.spans} for e in examples]
    if not tagger.spec.fine_types or not all(len(s.fine) == 1 for e in examples for s in e.spans):
        return micro_f1(coarse, gold), None
    fine = [{(*m.token_span, m.fine_label or "") for m in tags.mentions} for tags in results]
    gold_fine = [{(s.start, s.end, next(iter(s.fine))) for s in e.spans} for e in examples]
    return micro_f1(coarse, gold), micro_f1(fine, gold_fine)


def micro_f1(found: Sequence[Set[tuple[int, int, str]]], gold: Sequence[Set[tuple[int, int, str]]]) -> float:
    """Micro F1 over posts of typed spans."""
    right = sum(len(one & other) for one, other in zip(found, gold, strict=True))
    return 2 * right / max(sum(map(len, found)) + sum(map(len, gold)), 1)


def train(recipe: TaggerRecipe, resume: bool = False) -> dict[str, Any]:
    """Run the recipe. Returns the best epoch's dev scores and the adapter.

    The adapter is `out/adapter`, or with `mean_epoch` the mean `out/mean`, whose scores are not among those returned.
    """
    out = Path(recipe.out)
    ensure_writable(out)
    task = TaggerTask(recipe)
    run = Run(recipe, task)
    report = run.run(resume)
    report["adapter"] = report.pop("weights")
    if recipe.mean_epoch and (out / KEPT_EPOCH).is_dir():
        with run.average.in_place_of(task.net) if run.average else nullcontext():
            task.save(out / "last-epoch")
        record = {**task.record(), KEY: task.trained_posts.model_dump()}
        soup([out / KEPT_EPOCH, out / task.folder, out / "last-epoch"], out / "mean", record=record)
        report["adapter"] = str(out / "mean")
    return report
