"""Reads OFA's weights (Apache-2.0) in both published forms.

- fairseq's `.pt` (`ofa_large.pt`, `snli_ve_large_best.pt`, `refcoco_large_best.pt`), which also holds its settings;
- a folder or hub name of OFA-Sys's transformers branch (`OFA-Sys/ofa-large`): `config.json` and weights.

Sizes come from the tensors' shapes, everything else from the settings. Every tensor is used, or is listed as unused
(`_UNUSED`). Any other tensor is an error, and so is a missing one.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namepin.tools.base import digest
from namepin.tools.loading.fairseq import read_fairseq
from namepin.tools.loading.pretrained import (
    another_model,
    load_errors,
    load_exactly,
    read_json,
    read_pickle,
    weight_files,
)
from namepin.tools.models.ofa_vocabulary import OfaVocabulary, load_vocabulary, word_files
from namepin.tools.nets.ofa import Ofa, OfaSizes

_MEND = "take an OFA checkpoint, such as OFA-Sys/ofa-large or ofa_large.pt"

_UNUSED = re.compile(
    r"(encoder|decoder)\.(version|token_rp_bucket|image_rp_bucket)$|decoder\.image_position_idx$"  # computed anew
    r"|decoder\.(embed_image_positions|image_pos_ln|code_layernorm_embedding|image_rel_pos_table_list)\."  # drawing
    r"|classification_heads\."  # of other tasks
)

_SHARED = ("decoder.embed_tokens.weight", "decoder.output_projection.weight")
"""If these tensors exist, they are copies of the encoder's token embeddings."""

_FROM_TRANSFORMERS = (
    (r"^encoder\.(layers\.\d+)\.self_attn_mid_layer_norm\.", r"encoder.\1.attn_ln."),
    (r"^decoder\.(layers\.\d+)\.self_attn_mid_layer_norm\.", r"decoder.\1.self_attn_ln."),
    (r"^decoder\.(layers\.\d+)\.cross_attn_mid_layer_norm\.", r"decoder.\1.cross_attn_ln."),
    (r"^decoder\.(layers\.\d+)\.cross_attn_layer_norm\.", r"decoder.\1.encoder_attn_layer_norm."),
    (r"^decoder\.(layers\.\d+)\.cross_attn\.", r"decoder.\1.encoder_attn."),
    (r"\.ffn_layer_norm\.", ".ffn_layernorm."),
)
"""The transformers branch's name -> OFA's own name, which Namepin uses."""

_ALWAYS: Mapping[str, Any] = {
    "activation_fn": "gelu",
    "activation_function": "gelu",
    "no_scale_embedding": True,
    "scale_embedding": False,
    "entangle_position_embedding": False,
    "interpolate_position": False,
    "encoder_normalize_before": True,
    "decoder_normalize_before": True,
}
"""Settings of either form that all published OFAs share. The net supports no other value."""


_SPLIT = {"code_dict_size": 8192, "num_bins": 1000}
"""Numbers of codes and bins in the vocabulary, for checkpoints that do not state them."""

_PLACES = 1024
"""Token positions of all published OFAs; the bound for questions relies on it
(`namepin.tools.models.ofa_vocabulary`)."""


@dataclass(frozen=True)
class OfaCheckpoint:
    """A loaded checkpoint.

    Attributes:
        net: float32, evaluation mode, on the CPU.
        vocabulary: its vocabulary.
        identity: sha256 of weights, settings and vocabulary; models of equal identity compute the same.
    """

    net: Ofa
    vocabulary: OfaVocabulary
    identity: str


def load_ofa(path: Path, sha256: str, *, tokenizer: str) -> OfaCheckpoint:
    """Load an OFA.

    Args:
        path: see `namepin.tools.loading.pretrained.locate`.
        sha256: `weights_sha256(path)`.
        tokenizer: a folder or hub name, for a `.pt` without a vocabulary beside it; see
            `namepin.tools.models.ofa_vocabulary`.

    Raises:
        NamepinError: E210 no config, E211 damaged or truncated, E212 weights of another model or with settings that
            are not OFA's, E214 code in the file, E218 no vocabulary, or another one.
    """
    if path.is_dir():
        settings, state = _from_folder(path)
        task = settings
    else:
        state, sections = read_fairseq(path)
        settings = _section(sections, "model")
        task = _section(sections, "task") or settings  # older fairseq has one section for both
    net = from_state(state, settings, str(path))
    folder = path if path.is_dir() else path.parent
    place = str(folder) if path.is_dir() or word_files(folder) else tokenizer
    codes, bins = (int(_number(task, key, usual, str(path))) for key, usual in _SPLIT.items())
    vocabulary = load_vocabulary(place, net.sizes.vocabulary, codes, bins)
    return OfaCheckpoint(net.eval(), vocabulary, digest([sha256, asdict(net.sizes), vocabulary.identity]))


def save_ofa(net: Ofa, vocabulary: OfaVocabulary, folder: Path) -> None:
    """Write a folder that `load_ofa` reads: settings, weights and vocabulary."""
    from safetensors.torch import save_file

    sizes = net.sizes
    settings = {
        "model_type": "ofa",
        "attn_scale_factor": sizes.attn_scale_factor,
        "sync_bn": sizes.batch_norm_eps == 1e-3,
        "disable_entangle": not sizes.entangled,
        "code_dict_size": vocabulary.first_bin - vocabulary.words,
        "num_bins": vocabulary.bins,
    }
    (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    tensors = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    save_file(
        {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    vocabulary.save(folder)


def _section(sections: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = sections.get(name)
    return found if isinstance(found, dict) else {}


def _number(settings: Mapping[str, Any], key: str, usual: float, where: str) -> float:
    value = settings.get(key, usual)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise another_model(f"its setting {key} is {value!r}", where, _MEND)
    return value


def _from_folder(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    from safetensors.torch import load_file

    settings = read_json(folder / "config.json")
    if settings.get("model_type") != "ofa":
        found = settings.get("model_type")
        raise another_model(f"the checkpoint is of the kind {found!r}, not 'ofa'", str(folder), _MEND)
    state: dict[str, Tensor] = {}
    for file in weight_files(folder):
        with load_errors(str(file)):
            state |= load_file(file) if file.suffix == ".safetensors" else read_pickle(file)
    return settings, {_own_name(key): value for key, value in state.items()}


def _own_name(key: str) -> str:
    rule = next((rule for rule in _FROM_TRANSFORMERS if re.search(rule[0], key)), None)
    return re.sub(*rule, key) if rule else key


def from_state(state: Mapping[str, Tensor], settings: Mapping[str, Any], where: str) -> Ofa:
    """The net of a checkpoint's tensors.

    Args:
        state: tensors under OFA's own names.
        settings: the model's settings, of either form; missing ones have the values of the published models.
        where: the file, for messages.

    Raises:
        NamepinError: E211 when a number is not finite, E212 when a tensor is missing, unknown or of another shape, or a
            setting is not OFA's.
    """
    strange = [key for key, value in _ALWAYS.items() if settings.get(key, value) != value]
    if strange:
        raise another_model(f"its setting {strange[0]} is {settings[strange[0]]!r}", where, _MEND)
    loaded = {key: value.float() for key, value in state.items() if not _UNUSED.match(key)}
    copies = [loaded.pop(key) for key in _SHARED if key in loaded]
    factor = _number(settings, "attn_scale_factor", 2, where)
    try:
        sizes = _sizes(loaded, settings, factor)
    except (KeyError, IndexError) as error:
        raise another_model(f"{error} is missing or of another shape", where, _MEND) from error
    if sizes.width % sizes.heads or sizes.token_bucket < 2 or sizes.positions < _PLACES:
        raise another_model(f"its sizes make no OFA: {sizes}", where, _MEND)
    if not all(torch.equal(copy, loaded["encoder.embed_tokens.weight"]) for copy in copies):
        raise another_model("encoder and decoder have different token embeddings", where, _MEND)
    with torch.device("meta"):
        net = Ofa(sizes)
    for key in net.state_dict():  # frozen batch norms have no batch count, and no code here reads it
        if key.endswith("num_batches_tracked"):
            loaded[key] = torch.tensor(0)
    load_exactly(net, loaded, where, _MEND)
    return net


def _sizes(state: Mapping[str, Tensor], settings: Mapping[str, Any], factor: float) -> OfaSizes:
    embeddings = state["encoder.embed_tokens.weight"].shape
    layer = "encoder.layers.0."
    distances = state["encoder.token_rel_pos_table_list.0.weight"].shape
    stages = [_count(state, rf"encoder\.embed_images\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3)]
    return OfaSizes(
        vocabulary=embeddings[0],
        width=embeddings[1],
        inner=state[f"{layer}fc1.weight"].shape[0],
        encoder_layers=_count(state, r"encoder\.layers\.(\d+)\."),
        decoder_layers=_count(state, r"decoder\.layers\.(\d+)\."),
        heads=distances[1],
        positions=state["encoder.embed_positions.weight"].shape[0] - 2,
        token_bucket=(distances[0] + 1) // 2,
        image_bucket=math.isqrt(state["encoder.embed_image_positions.weight"].shape[0] - 1),
        blocks=(stages[0], stages[1], stages[2]),
        scale_attn=f"{layer}attn_ln.weight" in state,
        scale_fc=f"{layer}ffn_layernorm.weight" in state,
        scale_heads=f"{layer}self_attn.c_attn" in state,
        scale_resids=f"{layer}w_resid" in state,
        attn_scale_factor=float(factor),
        batch_norm_eps=1e-3 if settings.get("sync_bn") else 1e-5,
        entangled=settings.get("disable_entangle") is False,
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})
