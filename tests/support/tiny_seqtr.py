"""A SeqTR small enough for tests, saved as the authors' code saves theirs, with a vocabulary of its own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from namepin.tools.models.seqtr_vocabulary import FILE, vocabulary_of
from namepin.tools.nets.seqtr import Seqtr, SeqtrSizes

ANNOTATIONS = {
    "train": [{"expressions": ["A woman in an orange suit.", "the flag / on the left"]}],
    "val": [{"expressions": ["Ada (PER)-astronaut", "a dog"]}],
}
WORDS = vocabulary_of(ANNOTATIONS)
SIZES = SeqtrSizes(
    base=2,
    blocks=(1, 1, 1, 1, 1, 1),
    words=len(WORDS),
    word_width=6,
    width=32,
    inner=48,
    encoder_depth=2,
    decoder_depth=2,
    bins=40,
)
BOX, MASK, BOTH = SIZES, replace(SIZES, positions=13), replace(SIZES, positions=18, tasks=True)


def tiny_net(sizes: SeqtrSizes = BOX, seed: int = 0) -> Seqtr:
    """Weights from NumPy, whose stream is the same everywhere, scaled so that signals neither die nor explode."""
    net = Seqtr(sizes)
    generator = np.random.default_rng(seed)

    def noise(tensor: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(generator.standard_normal(tensor.shape), dtype=np.float32))

    with torch.no_grad():
        for name, parameter in net.named_parameters():
            drawn = noise(parameter)
            if "embedding" in name:
                parameter.copy_(drawn)
            elif parameter.dim() == 1:
                parameter.copy_(0.1 * drawn + (name.endswith("weight")))
            else:
                parameter.copy_(drawn * 1.6 / parameter[0].numel() ** 0.5)
        for name, buffer in net.named_buffers():
            if name.endswith("running_mean"):
                buffer.copy_(0.2 * noise(buffer))
            elif name.endswith("running_var"):
                buffer.copy_(0.5 + noise(buffer).abs())
    return net.eval()


def save(net: Seqtr, folder: Path, name: str = "det_best.pth", average: Seqtr | None = None, **more: object) -> Path:
    """A checkpoint of a training on several GPUs, and the vocabulary beside it."""
    saved: dict[str, object] = {
        "epoch": 3,
        "d_acc": 81.2,
        "best_miou": -1.0,
        "lr": 5e-4,
        "optimizer": {"state": {0: {"step": 7, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 5e-4}]},
        "scheduler": {"last_epoch": 3, "lr_lambdas": [None]},
        "state_dict": {f"module.{key}": value for key, value in net.state_dict().items()},
    }
    if average is not None:
        state = average.state_dict().items()
        saved["ema_state_dict"] = {f"module.{key}": value for key, value in state}
    torch.save({**saved, **more}, folder / name)
    (folder / FILE).write_text(json.dumps(WORDS))
    return folder / name
