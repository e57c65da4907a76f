"""Settings of the tagger's recipe."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from namepin.finetune.loop.settings import Count, LoopSettings, Positive, Rate, Share
from namepin.tools.loading.config import MINILM
from namepin.tools.tagger.config import Scheme

if TYPE_CHECKING:
    from torch import nn

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class TaggerRecipe(LoopSettings):
    """Settings of one training run. The starter adapter's are the shipped recipe `starter`.

    Attributes:
        data: folder with `gmner/` or `fmnerg/` and, for `ccby_epochs`, `ccby/`; or a sandbox world's folder; or the
            folder of Twitter-2015 or Twitter-2017 itself.
        dataset: `gmner`, whose fine types are distilled from the recorded knowledge, `fmnerg`, `sandbox`, or `twitter`
            (Twitter-2015 and Twitter-2017, scheme `4`).
        out: run folder; the adapter is written to `out/adapter`, not to `out/weights`.
        scheme: `4`, `4/51` or `8/51`, see `TaggerSpec`.
        encoder: base encoder, by hub name or folder.
        start: adapter folder with the initial weights; empty for the base encoder.
        marks: tell the encoder which words the knowledge lists as names, see `InputSpec`.
        fine_hints: also tell the encoder which of the 51 types the knowledge names literally, see `InputSpec`.
        alpha: weight of the coarse loss in equation 8; at 0 the fine path alone is trained, and scored on dev.
        beta: weight of the coarse logits in equation 9.
        transition: the axis along which M of equation 9 is normalised, see `transition_matrix`.
        pooled: weight of the cross-entropy of equation 10's distribution, which the paper does not train.
        dropout: dropout of both paths.
        bio_constraint: whether the CRFs allow `I-x` only after `B-x` or `I-x`; the papers do not require it.
        crf_scope: `text`: the CRFs see the post's words; `all`: the separator and the knowledge, too.
        bare: each epoch also has every post without its knowledge. For the papers' training, switch it off and set
            `knowledge` to 1.
        knowledge: share of the posts that an epoch has with their recorded knowledge.
        knowledge_pieces: number of word pieces of the knowledge that the encoder reads.
        casing: give the encoder each word's casing and context, see `InputSpec.shapes`; `marks` needs it.
        letters: read the letters of each word with a character net beside the encoder.
        freeze_embeddings: do not train the encoder's embedding tables.
        attention_dropout: keep the encoder's dropout of attention weights; it costs a tenth of the time.
        upper_layers: number of upper encoder layers to train; 0 for all.
        lora: rank of the update of each linear layer of the encoder, whose own weights are then frozen; 0 to train
            the weights themselves. It keeps the adapter of a large encoder small.
        epochs: passes over the training posts.
        mean_epoch: number of an early epoch, pretraining included. The adapter is then the mean of its weights, the
            best epoch's and the last one's. 0 for the best epoch alone.
        ccby_epochs: earlier passes over the CC-BY tweets, coarse path only.
        lr_encoder: learning rate of the encoder's top layer; `layer_decay` lowers it from layer to layer.
        layer_decay: factor of the learning rate from one encoder layer to the one below it.
        lr_heads: learning rate of all new parameters.
        swap: rate at which mentions of bare posts are replaced by others of their type.
        swap_within: whether that is the coarse type or, where it is known, the fine one.
        lower: rate of bare posts written in lower case only.
        upper: rate of bare posts written in capital letters only.
        hide: rate of word pieces hidden from the encoder.
        precision: precision of the encoder; the paths and their CRFs compute in float32.
        score_in: precision of the dev scores: float32, or that of the training, which takes a large encoder a third of
            the time.
        threads: number of PyTorch threads on the CPU.
    """

    data: str = ""
    dataset: Literal["gmner", "fmnerg", "sandbox", "twitter"] = "gmner"
    out: str = "out/tagger"
    scheme: Scheme = "4/51"
    encoder: str = MINILM
    start: str = ""
    alpha: Share = 0.5
    beta: Share = 0.1
    transition: Literal["column", "row"] = "column"
    pooled: Weight = 0.5
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    bio_constraint: bool = True
    crf_scope: Literal["text", "all"] = "text"
    bare: bool = True
    knowledge: Share = 0.5
    knowledge_pieces: Count = 48
    marks: bool = True
    fine_hints: bool = False
    casing: bool = True
    letters: bool = True
    freeze_embeddings: bool = True
    attention_dropout: bool = False
    upper_layers: Count = 0
    lora: Count = 0
    epochs: Positive = 10
    mean_epoch: Count = 0
    ccby_epochs: Count = 0
    patience: Positive = 4
    batch_size: Positive = 32
    lr_encoder: Rate = 1e-4
    lr_heads: Rate = 1e-3
    layer_decay: Share = 0.9
    ema: Share = 0.998
    swap: Share = 0.15
    swap_within: Literal["coarse", "fine"] = "coarse"
    lower: Share = 0.03
    upper: Share = 0.0
    hide: Share = 0.03
    precision: Literal["no", "bf16", "fp16"] = "bf16"
    score_in: Literal["float32", "training"] = "float32"
    threads: Positive = 2

    def parameter_groups(self, net: "nn.Module") -> list[dict[str, Any]]:
        """One group per parameter. The rate falls from the encoder's top layer down; biases and norms have no decay."""
        from namepin.finetune.loop.moving_average import trainable

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
        """Like every recipe's rate, but it peaks in the last step of the warm-up and never falls below 0.02."""
        warm = max(1, int(total * self.warmup))
        return (step + 1) / warm if step < warm else max(0.02, (total - step) / max(1, total - warm))


RECIPES = {"dual": TaggerRecipe}
