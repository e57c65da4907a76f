"""The parts of a tagger training step: the loss, frozen tables, transition counts."""

from collections.abc import Sequence

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

    The fine path is scored on the known part of the annotation: within a mention every sequence that the annotation
    allows counts, by its weight.
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


def freeze_tables(net: DualTaggerNet) -> None:
    """Freeze the encoder's embedding tables: most of a small encoder's weights, and the least to gain from tuning."""
    for module in net.encoder.modules():
        if isinstance(module, nn.Embedding):
            module.requires_grad_(False)


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
