"""The parts of a tagger training step: the loss, frozen parts, transition counts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from namepin.finetune.tagger.data import Example, Targets
from namepin.tools.errors import NamepinError, install_command
from namepin.tools.nets.crf import bio_tags
from namepin.tools.nets.dual_tagger import DualTaggerNet, Emissions
from namepin.tools.tagger.adapter import TaggerSpec


def tagger_loss(
    net: DualTaggerNet, logits: Emissions, mask: Tensor, targets: Targets, *, alpha: float, pooled: float
) -> Tensor:
    """Equation 8 as a mean over posts, plus the pooled term.

    The fine path is scored on the known part of the annotation: within a mention, every tag sequence that the
    annotation allows counts with its weight.
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


def drop_no_attention(encoder: nn.Module) -> None:
    """Turn off the dropout of attention weights; dropout on the layers' outputs remains."""
    for module in encoder.modules():
        if module.__class__.__name__.endswith("SelfAttention"):
            for name in ("dropout", "attn_dropout"):  # `attn_dropout` is MPNet's name
                if isinstance(part := getattr(module, name, None), nn.Dropout):
                    part.p = 0.0


def freeze(net: DualTaggerNet, *, tables: bool, upper_layers: int) -> None:
    """Freeze parts of the encoder.

    Args:
        net: a tagger.
        tables: freeze the embedding tables. They hold most of a small encoder's weights and gain least from tuning.
        upper_layers: number of upper layers to train; 0 for the whole encoder.
    """
    config: Any = net.encoder.config
    lowest = int(config.num_hidden_layers) - upper_layers if upper_layers else 0
    for name, parameter in net.encoder.named_parameters():
        numbers = [int(part) for part in name.split(".") if part.isdigit()]
        if upper_layers and (numbers[0] if numbers else -1) < lowest:
            parameter.requires_grad_(False)
    for module in net.encoder.modules():
        if tables and isinstance(module, nn.Embedding):
            module.requires_grad_(False)


def add_lora(net: DualTaggerNet, rank: int) -> None:
    """Freeze the encoder; each of its linear layers that was trainable learns an update of a rank (LoRA of scale 1).

    Raises:
        NamepinError: E301 without peft.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise NamepinError("E301", "the package peft is missing", mend=install_command("namepin[gpu]")) from error
    linear = {name: part for name, part in net.encoder.named_modules() if isinstance(part, nn.Linear)}
    layers = [name for name, part in linear.items() if part.weight.requires_grad]
    net.encoder.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=layers), net.encoder)


def co_occurrence(examples: Sequence[Example], spec: TaggerSpec) -> Tensor:
    """`(C, F)` counts of coarse and fine tags on one word, from the (weak) fine labels and the hierarchy."""
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
