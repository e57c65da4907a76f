"""The tagger's recipe: its settings, and the posts that it reads."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from torch import nn

from namepin.evals.datasets.gold import Dataset
from namepin.evals.run import load_dataset
from namepin.finetune.loop.moving_average import trainable
from namepin.finetune.loop.settings import Count, LoopSettings, Positive, Rate, Share
from namepin.finetune.tagger.data import Example, ccby_files, read_fmnerg, read_gmner
from namepin.tools.base import file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.loading.encoder import MINILM
from namepin.tools.tagger.adapter import Scheme, TaggerSpec
from namepin.tools.tagger.rows import InputSpec

TRAIN_FILES = {
    "gmner": "gmner/txt/train.txt",
    "fmnerg": "fmnerg/txt_fine/train.txt",
    "sandbox": "txt_fine/train.txt",
}

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class TaggerRecipe(LoopSettings):
    """Settings of one training run. The starter adapter came from several; its model card lists them.

    Attributes:
        data: folder that holds `gmner/` or `fmnerg/` and, for `ccby_epochs`, `ccby/`; a sandbox world's own.
        dataset: `gmner`, whose fine types are distilled from the recorded knowledge, `fmnerg`, or `sandbox`.
        out: run folder; the adapter is written to `out/adapter`, not to `out/weights`.
        scheme: `4`, `4/51` or `8/51`, see `TaggerSpec`.
        encoder: base encoder, by hub name or folder.
        start: adapter folder with the weights to begin with; empty for the base encoder.
        marks: tell the encoder which words the knowledge lists as names, see `InputSpec`.
        fine_hints: tell it, too, which of the 51 types the knowledge gives a name word for word, see `InputSpec`.
        alpha: weight of the coarse loss in equation 8; at 0 the fine path alone is trained, and scored on dev.
        beta: weight of the coarse logits in equation 9.
        pooled: weight of the cross-entropy of equation 10's distribution, which the paper does not train.
        knowledge: share of the posts that an epoch shows a second time, with their recorded knowledge.
        epochs: passes over the training posts, each without its knowledge.
        ccby_epochs: passes over the CC-BY tweets before, coarse path only.
        lr_encoder: learning rate of the encoder's top layer; `layer_decay` lowers it from layer to layer.
        lr_heads: learning rate of all that is new.
        swap: rate at which mentions of bare posts are replaced by others of their type.
        lower: rate of bare posts written in lower case only.
        hide: rate of word pieces hidden from the encoder.
        precision: of the encoder; the paths and their CRFs compute in float32.
        threads: of PyTorch on the CPU.
    """

    data: str = ""
    dataset: Literal["gmner", "fmnerg", "sandbox"] = "gmner"
    out: str = "out/tagger"
    scheme: Scheme = "4/51"
    encoder: str = MINILM
    start: str = ""
    alpha: Share = 0.5
    beta: Share = 0.1
    pooled: Weight = 0.5
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    bio_constraint: bool = True
    crf_scope: Literal["text", "all"] = "text"
    knowledge: Share = 0.5
    knowledge_pieces: Count = 48
    marks: bool = True
    fine_hints: bool = False
    epochs: Positive = 10
    ccby_epochs: Count = 0
    patience: Positive = 4
    batch_size: Positive = 32
    lr_encoder: Rate = 1e-4
    lr_heads: Rate = 1e-3
    layer_decay: Share = 0.9
    ema: Share = 0.998
    swap: Share = 0.15
    lower: Share = 0.03
    hide: Share = 0.03
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    threads: Positive = 2

    def parameter_groups(self, net: nn.Module) -> list[dict[str, Any]]:
        """One group per parameter: the rate falls from the encoder's top layer down; biases and norms do not decay."""
        config: Any = net.get_submodule("encoder").config
        layers = int(config.num_hidden_layers)
        groups = []
        for name, parameter in trainable(net).items():
            rate = self.lr_heads
            if name.startswith("encoder."):
                numbers = [int(part) for part in name.split(".") if part.isdigit()]
                rate = self.lr_encoder * self.layer_decay ** (layers - 1 - numbers[0] if numbers else layers)
            decay = self.weight_decay if parameter.dim() > 1 else 0.0
            groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
        return groups

    def rate(self, step: int, total: int) -> float:
        """As every recipe's, but it reaches the peak in the last step of the warm-up and never falls below 0.02."""
        warm = max(1, int(total * self.warmup))
        return (step + 1) / warm if step < warm else max(0.02, (total - step) / max(1, total - warm))


def spec_of(recipe: TaggerRecipe) -> TaggerSpec:
    """The architecture that the recipe trains."""
    return TaggerSpec.model_validate(
        {
            "scheme": recipe.scheme,
            "encoder": recipe.encoder,
            "beta": recipe.beta,
            "dropout": recipe.dropout,
            "bio_constraint": recipe.bio_constraint,
            "input": InputSpec.model_validate(
                {
                    "knowledge_pieces": recipe.knowledge_pieces,
                    "crf_scope": recipe.crf_scope,
                    "marks": recipe.marks,
                    "hints": recipe.marks,
                    "fine_hints": recipe.fine_hints,
                }
            ),
        }
    )


def data_root(recipe: TaggerRecipe) -> Path:
    """`recipe.data`, else NAMEPIN_DATA, else `../shared/data` beside the checkout.

    Raises:
        NamepinError: E130 when the data set's training file is not there.
    """
    root = Path(
        recipe.data or os.environ.get("NAMEPIN_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data"
    )
    file = root / TRAIN_FILES[recipe.dataset]
    if not file.is_file():
        raise NamepinError("E130", f"no {file.name} to train on", where=str(file), mend="set `data` or NAMEPIN_DATA")
    return root


def load_data(root: Path, recipe: TaggerRecipe) -> tuple[list[Example], list[Example], dict[str, str]]:
    """Training and dev posts, and the sha256 of every file they come from.

    GMNER has no fine types: its mentions get weak ones, distilled from the recorded knowledge.

    Raises:
        NamepinError: E130 to E139 for a split that is missing, has no mention, or a line that cannot be understood or
            learnt from; E203 for a scheme that the data set does not have.
    """
    spec = spec_of(recipe)
    folder = root if recipe.dataset == "sandbox" else root / recipe.dataset
    texts = "txt" if recipe.dataset == "gmner" else "txt_fine"
    if recipe.scheme == "8/51" and (recipe.dataset == "gmner" or recipe.ccby_epochs):
        raise NamepinError("E203", "scheme: gmner and ccby have 4 coarse types, not 8", mend="set scheme to 4/51 or 4")
    if recipe.ccby_epochs and not ccby_files(root / "ccby"):
        raise NamepinError("E130", "no tweets for ccby_epochs", where=str(root / "ccby"), mend="set ccby_epochs to 0")
    for split in ("train", "dev"):
        require_learnable(load_dataset(recipe.dataset, folder, split), folder / texts / f"{split}.txt")
    if recipe.dataset in ("fmnerg", "sandbox"):
        splits = read_fmnerg(folder, "train", spec), read_fmnerg(folder, "dev", spec)
    else:
        from namepin.finetune.tagger.weak_labels import weak_fine_labels

        weak = weak_fine_labels(folder, "train") if spec.fine_types else None
        splits = read_gmner(folder, "train", weak), read_gmner(folder, "dev")
    kinds = {texts: "txt", "knowledge": "jsonl"}
    files = [folder / kind / f"{split}.{end}" for split in ("train", "dev") for kind, end in kinds.items()]
    files += ccby_files(root / "ccby") if recipe.ccby_epochs else []
    train, dev = splits
    return (
        train[: recipe.limit or None],
        dev,
        {str(file.relative_to(root)): file_sha256(file) for file in files if file.is_file()},
    )


def require_learnable(dataset: Dataset, file: Path) -> None:
    """Require correct tags: to learn from wrong ones is worse than to stop.

    Args:
        dataset: the split as it was read.
        file: its text.

    Raises:
        NamepinError: E132 at the first tag that is broken, outside the scheme or disagrees with its coarse one, E139
            when there is no mention.
    """
    for problem in dataset.problems:
        if problem.code == "E132":
            raise NamepinError("E132", problem.what, where=problem.where, mend="fix the file")
    if not any(gold.entities for gold in dataset.posts):
        raise NamepinError("E139", "no post has a mention: nothing to learn or to choose epochs by", where=str(file))
