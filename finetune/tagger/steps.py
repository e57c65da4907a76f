"""The parts of a tagger training step: the loss, parameter groups, moving average, transition counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from namepin.finetune.tagger.data import Example, Targets
from namepin.tools.nets.crf import bio_tags
from namepin.tools.nets.dual_tagger import DualTaggerNet, Emissions
from namepin.tools.tagger.adapter import TaggerSpec


def tagger_loss(
    net: DualTaggerNet, logits: Emissions, mask: Tensor, targets: Targets, *, alpha: float, pooled: float
) -> Tensor:
    """Equation 8 as a mean over posts, plus the pooled term.

    The fine path is scored on what is known: within a mention every sequence that the annotation allows counts, by its
    weight.
    """
    coarse = net.coarse.crf.nll(logits.coarse, targets.coarse, mask).mean()
    if net.fine is None or logits.fine is None or targets.fine is None:
        return coarse
    fine = net.fine.crf.partial_nll(logits.fine, targets.fine, mask).mean()
    loss = alpha * coarse + (1 - alpha) * fine
    if pooled and targets.spans:
        means = torch.stack([logits.fine[b, start:end].mean(0) for b, start, end in targets.spans])
        merged = means[:, 1:].view(len(means), -1, 2).logsumexp(2)
        loss = loss - pooled * (targets.span_weights * merged.log_softmax(1)).sum(1).mean()
    return loss


class MovingAverage:
    """Exponential moving average of a net's trained parameters."""

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.values = {name: p.detach().clone() for name, p in trained(net).items()}

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take one step in; early steps count more, so that the start is forgotten."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, p in trained(net).items():
            self.values[name].lerp_(p, 1 - decay)


def trained(net: nn.Module) -> dict[str, Tensor]:
    """The parameters that training moves, which are those that an adapter stores."""
    return {name: p for name, p in net.named_parameters() if p.requires_grad}


@torch.no_grad()
def put(net: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Overwrite parameters of the net by name."""
    parameters = dict(net.named_parameters())
    for name, value in values.items():
        parameters[name].copy_(value)


def freeze_tables(net: DualTaggerNet) -> None:
    """Freeze the encoder's embedding tables: most of a small encoder's weights, and the least to gain from tuning."""
    for module in net.encoder.modules():
        if isinstance(module, nn.Embedding):
            module.requires_grad_(False)


def parameter_groups(
    net: DualTaggerNet, *, lr_encoder: float, lr_heads: float, layer_decay: float, weight_decay: float
) -> list[dict[str, Any]]:
    """AdamW groups: the learning rate falls from the top layer down; biases and norms do not decay."""
    config: Any = net.encoder.config
    layers = int(config.num_hidden_layers)
    groups = []
    for name, p in trained(net).items():
        rate = lr_heads
        if name.startswith("encoder."):
            numbers = [int(part) for part in name.split(".") if part.isdigit()]
            rate = lr_encoder * layer_decay ** (layers - 1 - numbers[0] if numbers else layers)
        groups.append({"params": [p], "lr": rate, "weight_decay": weight_decay if p.dim() > 1 else 0.0})
    return groups


def co_occurrence(examples: Sequence[Example], spec: TaggerSpec) -> Tensor:
    """`(C, F)` counts of coarse and fine tags on one word, in the examples' (weak) fine labels and in the hierarchy."""
    coarse, fine = bio_tags(spec.coarse_types), bio_tags(spec.fine_types)
    counts = torch.zeros(len(coarse), len(fine))
    counts[0, 0] = 1
    for kind in spec.fine_types:
        for prefix in "BI":
            counts[coarse.index(f"{prefix}-{spec.parents[kind]}"), fine.index(f"{prefix}-{kind}")] += 1
    for example in examples:
        for span in example.spans:
            for kind, weight in span.fine.items():
                for prefix, words in (("B", 1), ("I", span.end - span.start - 1)):
                    counts[coarse.index(f"{prefix}-{span.coarse}"), fine.index(f"{prefix}-{kind}")] += weight * words
    return counts
