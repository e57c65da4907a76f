"""Reads BLIP's image-text matching weights in both published forms.

- a transformers folder or hub name (`Salesforce/blip-itm-large-coco`): `config.json` and safetensors;
- an original Salesforce file (`model_large_retrieval_coco.pth`, used by BLIP and LAVIS alike): a pickle of tensors,
  read without running code. Sizes come from the tensors, and `translate` maps the names.

From such a file, the image encoder, the text encoder, the two projections and the ITM head are used. The momentum
copies (`*_m`), queues and temperature are for training only and are skipped. Any other name is an error.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namepin.tools.images.tensors import CLIP_MEAN, CLIP_STD
from namepin.tools.loading.pretrained import (
    another_model,
    identity,
    load_exactly,
    load_folder,
    load_tokenizer,
    normalisation,
    read_pickle,
)

_MEND = (
    "take a BLIP with an image-text matching head, such as Salesforce/blip-itm-large-coco or "
    "model_large_retrieval_coco.pth"
)

_HEAD_WIDTH = 64
"""Channels of an attention head in every published BLIP; the original files do not store it."""

_TRAINING_ONLY = re.compile(
    r"(visual_encoder_m|text_encoder_m|vision_proj_m|text_proj_m)\.|(image|text|idx|ptr)_queue$|temp$"
    r"|text_encoder\.embeddings\.position_ids$"
)
_RENAMED = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision_model.encoder.layers.\1.self_attn.projection."),
    (r"^visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
)
"""Original name -> transformers' name; text encoder, projections and head have the same names in both."""


@dataclass(frozen=True)
class BlipCheckpoint:
    """A loaded checkpoint.

    Attributes:
        net: `BlipForImageTextRetrieval`, float32, evaluation mode, on the CPU.
        tokenizer: BERT's tokenizer that the checkpoint or the settings name.
        mean: mean of the picture's channels, for normalising.
        std: standard deviation of the channels.
        identity: sha256 of weights, configuration and vocabulary; models of equal identity compute the same.
    """

    net: Any
    tokenizer: Any
    mean: tuple[float, ...]
    std: tuple[float, ...]
    identity: str


def load_blip(path: Path, sha256: str, *, tokenizer: str, vision_norm_eps: float | None) -> BlipCheckpoint:
    """Load a BLIP with its ITM head from a transformers folder or an original `.pth` file.

    Args:
        path: see `namepin.tools.loading.pretrained.locate`.
        sha256: `weights_sha256(path)`.
        tokenizer: a folder or hub name for an original file, which has no tokenizer.
        vision_norm_eps: see `BlipConfig.vision_norm_eps`; None keeps the value of a folder's `config.json`.

    Raises:
        NamepinError: E211 damaged or truncated, E212 weights of another model, E214 a pickle with code in it,
            E218 no tokenizer, or one that does not fit.
    """
    if path.is_dir():
        net, (mean, std) = _from_folder(path, vision_norm_eps), normalisation(path)
    else:
        net = from_original(read_pickle(path), str(path), vision_norm_eps or 1e-6)
        mean, std = CLIP_MEAN, CLIP_STD
    loaded_tokenizer = load_tokenizer(str(path) if path.is_dir() else tokenizer, net.config.text_config.vocab_size)
    return BlipCheckpoint(
        net.eval(), loaded_tokenizer, mean, std, identity(sha256, net, mean, std, loaded_tokenizer.get_vocab())
    )


def _from_folder(folder: Path, vision_norm_eps: float | None) -> Any:
    from transformers import BlipForImageTextRetrieval

    def adjust(config: Any) -> None:
        if vision_norm_eps is not None:
            config.vision_config.layer_norm_eps = vision_norm_eps

    return load_folder(BlipForImageTextRetrieval, folder, kind="blip", mend=_MEND, adjust=adjust)


def translate(names: Iterable[str]) -> dict[str, str]:
    """Original name -> transformers' name, for all but the names that were used only in training."""
    renamed = {}
    for name in names:
        if _TRAINING_ONLY.match(name):
            continue
        renamed[name] = name
        for pattern, replacement in _RENAMED:
            if re.match(pattern, name):
                renamed[name] = re.sub(pattern, replacement, name)
    return renamed


def from_original(state: Mapping[str, Tensor], where: str, vision_norm_eps: float = 1e-6) -> Any:
    """The net of an original checkpoint, with sizes from the tensors' shapes.

    Raises:
        NamepinError: E212 when a tensor is missing, left over, or of another shape.
    """
    from transformers import BlipForImageTextRetrieval

    config = _config_of(state, where, vision_norm_eps)
    renamed = translate(state)
    with torch.device("meta"):
        net: Any = BlipForImageTextRetrieval(config)
    loaded = {new: state[old].float() for old, new in renamed.items()}
    load_exactly(net, loaded, where, _MEND)
    # These buffers are not part of a state dict, so they have no values yet.
    positions = torch.arange(config.text_config.max_position_embeddings).unsqueeze(0)
    net.text_encoder.embeddings.position_ids = positions
    return net


def _config_of(state: Mapping[str, Tensor], where: str, vision_norm_eps: float) -> Any:
    from transformers import BlipConfig

    try:
        patch = state["visual_encoder.patch_embed.proj.weight"].shape
        positions = state["visual_encoder.pos_embed"].shape[1] - 1
        embeddings = state["text_encoder.embeddings.word_embeddings.weight"].shape
        vision = {
            "hidden_size": patch[0],
            "intermediate_size": state["visual_encoder.blocks.0.mlp.fc1.weight"].shape[0],
            "num_hidden_layers": _count(state, r"visual_encoder\.blocks\.(\d+)\."),
            "num_attention_heads": max(1, patch[0] // _HEAD_WIDTH),
            "patch_size": patch[-1],
            "image_size": patch[-1] * math.isqrt(positions),
            "layer_norm_eps": vision_norm_eps,
        }
        text = {
            "vocab_size": embeddings[0],
            "hidden_size": embeddings[1],
            "intermediate_size": state["text_encoder.encoder.layer.0.intermediate.dense.weight"].shape[0],
            "num_hidden_layers": _count(state, r"text_encoder\.encoder\.layer\.(\d+)\."),
            "num_attention_heads": max(1, embeddings[1] // _HEAD_WIDTH),
            "max_position_embeddings": state["text_encoder.embeddings.position_embeddings.weight"].shape[0],
        }
        projection = state["vision_proj.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise another_model(f"{error} is missing or of another shape", where, _MEND) from error
    config = BlipConfig(vision_config=vision, text_config=text, image_text_hidden_size=projection)
    config._attn_implementation = "eager"
    return config


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})
