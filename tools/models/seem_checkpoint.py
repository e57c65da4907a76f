"""SEEM's published weights (Apache-2.0): `seem_focalt_v*.pt`, `seem_focall_v*.pt`, and the DaViT variants.

A pickle of tensors, read without running code. Sizes come from the tensors. Every tensor of the file is loaded, or is
listed as unused: it serves training, or the memory of earlier strokes.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namepin.tools.base import digest
from namepin.tools.loading.pickles import read_checkpoint
from namepin.tools.loading.pretrained import another_model, load_exactly, load_tokenizer
from namepin.tools.nets.seem import Seem, SeemSizes
from namepin.tools.nets.seem.davit import DavitSizes
from namepin.tools.nets.seem.focal import FocalSizes

_MEND = "take a SEEM checkpoint: `namepin pull seem_focall_v0.pt`"

_UNUSED = re.compile(
    r"criterion\.empty_weight$|dilation_kernel$|pixel_(mean|std)$"
    r"|sem_seg_head\.predictor\.(spatial_embed|spatial_featured)\.weight$"
)
_PIXELS = "sem_seg_head.pixel_decoder."
_MASKS = "sem_seg_head.predictor."
_TEXT = _MASKS + "lang_encoder."


@dataclass(frozen=True)
class SeemCheckpoint:
    """A loaded checkpoint.

    Attributes:
        net: float32, evaluation mode, on the CPU.
        tokenizer: CLIP's.
        positions: number of tokens of the longest text.
        identity: sha256 of weights, sizes and vocabulary; models of equal identity compute the same.
    """

    net: Seem
    tokenizer: Any
    positions: int
    identity: str


def load_seem(path: Path, sha256: str, *, tokenizer: str) -> SeemCheckpoint:
    """Load a SEEM from a published file.

    Args:
        path: the file.
        sha256: `weights_sha256(path)`.
        tokenizer: folder or hub name of CLIP's tokenizer, since the file has none.

    Raises:
        NamepinError: E211 damaged or truncated, E212 weights of another model, E214 a pickle with code in it,
            E218 no tokenizer, or one that does not fit.
    """
    if path.is_dir():
        raise another_model("a folder is given, SEEM's weights are one file", str(path), _MEND)
    net, sizes = from_state(read_checkpoint(path), str(path))
    loaded_tokenizer = load_tokenizer(tokenizer, sizes.words)
    identity = digest([sha256, repr(asdict(sizes)), loaded_tokenizer.get_vocab()])
    return SeemCheckpoint(net.eval(), loaded_tokenizer, sizes.positions, identity)


def from_state(state: Mapping[str, Tensor], where: str) -> tuple[Seem, SeemSizes]:
    """The net of a checkpoint's tensors, and its sizes.

    Raises:
        NamepinError: E212 when a tensor is missing, left over, or of another shape.
    """
    try:
        sizes = _sizes(state)
        with torch.device("meta"):
            net = Seem(sizes)
    except (KeyError, IndexError, AssertionError, ValueError) as error:
        raise another_model(f"{error} is missing or of another shape", where, _MEND) from error
    loaded = {key: value.float() for key, value in state.items() if not _UNUSED.match(key)}
    load_exactly(net, loaded, where, _MEND)
    return net, sizes


def _sizes(state: Mapping[str, Tensor]) -> SeemSizes:
    def shape(name: str) -> torch.Size:
        return state[name].shape

    return SeemSizes(
        backbone=_davit(state) if "backbone.convs.0.proj.weight" in state else _focal(state),
        width=shape(_MASKS + "query_feat.weight")[1],
        masks=shape(_PIXELS + "mask_features.weight")[0],
        inner=shape(_PIXELS + "transformer.encoder.layers.0.linear1.weight")[0],
        decoder_inner=shape(_MASKS + "transformer_ffn_layers.0.linear1.weight")[0],
        encoder_depth=_count(state, _PIXELS + r"transformer\.encoder\.layers\.(\d+)\."),
        depth=_count(state, _MASKS + r"transformer_ffn_layers\.(\d+)\."),
        queries=shape(_MASKS + "query_feat.weight")[0],
        projection=shape(_MASKS + "class_embed")[1],
        words=shape(_TEXT + "lang_encoder.token_embedding.weight")[0],
        positions=shape(_TEXT + "lang_encoder.positional_embedding")[0],
        text_width=shape(_TEXT + "lang_encoder.token_embedding.weight")[1],
        text_depth=_count(state, _TEXT + r"lang_encoder\.resblocks\.(\d+)\."),
    )


def _focal(state: Mapping[str, Tensor]) -> FocalSizes:
    first = "backbone.layers.0.blocks.0."
    return FocalSizes(
        width=state["backbone.patch_embed.proj.weight"].shape[0],
        depths=_depths(state, r"backbone\.layers\.(\d+)\.blocks\.(\d+)\."),
        levels=_count(state, re.escape(first) + r"modulation\.focal_layers\.(\d+)\."),
        window=state[first + "modulation.focal_layers.0.0.weight"].shape[-1],
        depthwise=first + "dw1.weight" in state,
    )


def _davit(state: Mapping[str, Tensor]) -> DavitSizes:
    stages = range(_count(state, r"backbone\.convs\.(\d+)\."))
    return DavitSizes(
        widths=tuple(state[f"backbone.convs.{stage}.proj.weight"].shape[0] for stage in stages),
        depths=_depths(state, r"backbone\.blocks\.(\d+)\.(\d+)\."),
        kernel=state["backbone.convs.1.proj.weight"].shape[-1],
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})


def _depths(state: Mapping[str, Tensor], pattern: str) -> tuple[int, ...]:
    blocks = {match.groups() for key in state if (match := re.match(pattern, key))}
    stages = sorted({int(stage) for stage, _ in blocks})
    return tuple(sum(int(stage) == wanted for stage, _ in blocks) for wanted in stages)
