"""Reads SeqTR's weights as saved by the authors' code; they give no licence.

A file is `{"state_dict": ..., "ema_state_dict": ...}`.

`det_best.pth` and `segm_best.pth` hold the weights, usually their moving average, and the state of the training. Only
tensors are read, and no code is run. Names may begin with `module.`. A folder with `model.safetensors` under the same
names is read as well. Every tensor is used; sizes are read off the shapes.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from namepin.tools.base import digest
from namepin.tools.loading.pretrained import (
    another_model,
    load_errors,
    load_exactly,
    read_pickle,
    weight_files,
)
from namepin.tools.models.seqtr_vocabulary import FILE, load_vocabulary
from namepin.tools.nets.seqtr import HEADS, Seqtr, SeqtrSizes

_MEND = "take a SeqTR checkpoint, such as the authors' det_best.pth or segm_best.pth"

_STAGES = (2, 4, 6, 8, 10, 11)
"""DarkNet's layers that hold pairs of convolutions."""


@dataclass(frozen=True)
class SeqtrCheckpoint:
    """A loaded checkpoint.

    Attributes:
        net: float32, evaluation mode, on the CPU.
        vocabulary: word -> row of the embeddings.
        identity: sha256 of weights, sizes and vocabulary; models of equal identity compute the same.
    """

    net: Seqtr
    vocabulary: Mapping[str, int]
    identity: str


def load_seqtr(path: Path, sha256: str, *, vocabulary: str | None, average: bool) -> SeqtrCheckpoint:
    """Load a SeqTR.

    Args:
        path: the file or folder.
        sha256: `weights_sha256(path)`.
        vocabulary: the JSON file; None for `token_to_ix.json` beside the weights.
        average: use the moving average of the weights if the file has it.

    Raises:
        NamepinError: E211 damaged, truncated or not finite, E212 weights of another model, E214 a pickle with code in
            it, E218 no vocabulary, or one that does not fit.
    """
    net = from_state(read_tensors(path, average), str(path))
    beside = (path if path.is_dir() else path.parent) / FILE
    loaded_vocabulary = load_vocabulary(Path(vocabulary) if vocabulary else beside, net.sizes.words)
    return SeqtrCheckpoint(
        net.eval(), loaded_vocabulary, digest([sha256, average, asdict(net.sizes), loaded_vocabulary])
    )


def read_tensors(path: Path, average: bool) -> dict[str, Tensor]:
    """The tensors of a `.pth` file, or of the weights in a folder.

    Raises:
        NamepinError: E210 when a folder has none, E211, E212 and E214 as
            `namepin.tools.loading.pretrained.read_pickle`.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        if file.suffix != ".safetensors":
            keys = ("ema_state_dict", "state_dict") if average else ("state_dict",)
            tensors |= read_pickle(file, keys)
            continue
        with load_errors(str(file)):
            tensors |= load_file(file)
    return tensors


def from_state(state: Mapping[str, Tensor], where: str) -> Seqtr:
    """The net of a checkpoint's tensors.

    Raises:
        NamepinError: E211 when a number is not finite, E212 when a tensor is missing, left over or of another shape.
    """
    loaded = {key.removeprefix("module."): value for key, value in state.items()}
    # A moving average turns counts into fractions; no code reads them.
    loaded = {key: value if key.endswith("tracked") else value.float() for key, value in loaded.items()}
    try:
        sizes = _sizes(loaded)
    except (KeyError, IndexError, ValueError) as error:
        raise another_model(f"{error} is missing or of another shape", where, _MEND) from error
    with torch.device("meta"):
        net = Seqtr(sizes)
    load_exactly(net, loaded, where, _MEND)
    return net


def _sizes(state: Mapping[str, Tensor]) -> SeqtrSizes:
    def shape(name: str) -> torch.Size:
        return state[name].shape

    words = shape("lan_enc.embedding.weight")
    tokens = shape("head.transformer.query_embedding.weight")
    positions = shape("head.transformer.seq_positional_encoding.embedding.weight")[0]
    tasks = "head.task_embedding.weight" in state
    if tokens[1] % 32 or tokens[1] % HEADS or tokens[0] < 2:
        raise ValueError("head.transformer.query_embedding.weight")
    if positions % 2 == tasks or positions < (12 if tasks else 5):
        raise ValueError("head.transformer.seq_positional_encoding.embedding.weight")
    stages = (rf"vis_enc\.darknet\.{layer}\.module_list\.(\d+)\." for layer in _STAGES)
    return SeqtrSizes(
        base=shape("vis_enc.darknet.0.conv.weight")[0],
        blocks=tuple(_count(state, stage) for stage in stages),
        words=words[0],
        word_width=words[1],
        width=tokens[1],
        inner=shape("head.transformer.encoder.layers.0.linear1.weight")[0],
        encoder_depth=_count(state, r"head\.transformer\.encoder\.layers\.(\d+)\."),
        decoder_depth=_count(state, r"head\.transformer\.decoder\.layers\.(\d+)\."),
        bins=tokens[0] - 1,
        positions=positions,
        tasks=tasks,
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})
