"""Reads SAM's weights in both published forms.

- a transformers folder or hub name (`facebook/sam-vit-huge`): `config.json` and safetensors;
- an original file (`sam_vit_h_4b8939.pth`, `sam_vit_l_0b3195.pth`, `sam_vit_b_01ec64.pth`): a pickle of tensors, read
  without running code. Sizes come from the tensors, and `translate` maps the names.

Both are Apache-2.0.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namepin.tools.loading.pretrained import (
    another_model,
    identity,
    load_exactly,
    load_folder,
    read_pickle,
)

_MEND = "take a SAM checkpoint, such as facebook/sam-vit-huge or sam_vit_h_4b8939.pth"

_RENAMED = (
    (r"^image_encoder\.patch_embed\.proj\.", "vision_encoder.patch_embed.projection."),
    (r"^image_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_encoder.layers.\1.layer_norm\2."),
    (r"^image_encoder\.blocks\.", "vision_encoder.layers."),
    (r"^image_encoder\.neck\.0\.", "vision_encoder.neck.conv1."),
    (r"^image_encoder\.neck\.1\.", "vision_encoder.neck.layer_norm1."),
    (r"^image_encoder\.neck\.2\.", "vision_encoder.neck.conv2."),
    (r"^image_encoder\.neck\.3\.", "vision_encoder.neck.layer_norm2."),
    (r"^image_encoder\.", "vision_encoder."),
    (
        r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$",
        "prompt_encoder.shared_embedding.positional_embedding",
    ),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^(mask_decoder\.transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^mask_decoder\.transformer\.norm_final_attn\.", "mask_decoder.transformer.layer_norm_final_attn."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\..*(?:mlps\.\d+|head))\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\..*(?:mlps\.\d+|head))\.layers\.1\.", r"\1.layers.0."),
    (r"^(mask_decoder\..*(?:mlps\.\d+|head))\.layers\.2\.", r"\1.proj_out."),
)
"""Original name -> transformers' name: the first rule that fits; a name without a rule is the same in both."""


@dataclass(frozen=True)
class SamCheckpoint:
    """A loaded checkpoint.

    Attributes:
        net: `SamModel`, float32, evaluation mode, on the CPU.
        identity: sha256 of weights and configuration; models of equal identity compute the same.
    """

    net: Any
    identity: str


def load_sam(path: Path, sha256: str) -> SamCheckpoint:
    """Load a SAM from a transformers folder or an original `.pth` file.

    Args:
        path: see `namepin.tools.loading.pretrained.locate`.
        sha256: `weights_sha256(path)`.

    Raises:
        NamepinError: E210 no config, E211 damaged or truncated, E212 weights of another model, E214 a pickle with
            code in it.
    """
    net = _from_folder(path) if path.is_dir() else from_original(read_pickle(path), str(path))
    return SamCheckpoint(net.eval(), identity(sha256, net))


def _from_folder(folder: Path) -> Any:
    from transformers import SamModel

    return load_folder(SamModel, folder, kind="sam", mend=_MEND, adjust=_as_trained)


def _as_trained(config: Any) -> None:
    """The mask decoder's layer norms as SAM was trained; the published conversions leave transformers' 1e-6."""
    config.mask_decoder_config.layer_norm_eps = 1e-5


def translate(names: Iterable[str]) -> dict[str, str]:
    """Original name -> transformers' name."""
    renamed = {}
    for name in names:
        rule = next((rule for rule in _RENAMED if re.match(rule[0], name)), None)
        renamed[name] = re.sub(*rule, name) if rule else name
    return renamed


def from_original(state: Mapping[str, Tensor], where: str) -> Any:
    """The net of an original checkpoint, with sizes from the tensors' shapes.

    Raises:
        NamepinError: E212 when a tensor is missing, left over, or of another shape.
    """
    from transformers import SamModel

    config = _config_of(state, where)
    with torch.device("meta"):
        net: Any = SamModel(config)
    loaded = {new: state[old].float() for old, new in translate(state).items()}
    positions = loaded.get("prompt_encoder.shared_embedding.positional_embedding")
    if positions is not None:  # one matrix, which transformers also stores as the picture's
        loaded["shared_image_embedding.positional_embedding"] = positions
    load_exactly(net, loaded, where, _MEND)
    net.tie_weights()
    return net


def _config_of(state: Mapping[str, Tensor], where: str) -> Any:
    from transformers import SamConfig

    try:
        patch = state["image_encoder.patch_embed.proj.weight"].shape
        grid = state["image_encoder.pos_embed"].shape[1]
        spans = [state[f"image_encoder.blocks.{i}.attn.rel_pos_h"].shape for i in range(_count(state))]
        everywhere = [i for i, span in enumerate(spans) if span[0] == 2 * grid - 1]
        windows = [(span[0] + 1) // 2 for i, span in enumerate(spans) if i not in everywhere]
        decoder = state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape
        internal = state["mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight"].shape
        masks = state["prompt_encoder.mask_downscaling.3.weight"].shape[0]
        vision = {
            "hidden_size": patch[0],
            "mlp_dim": state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0],
            "output_channels": decoder[1],
            "num_hidden_layers": len(spans),
            "num_attention_heads": patch[0] // spans[0][1],
            "patch_size": patch[-1],
            "image_size": patch[-1] * grid,
            "window_size": windows[0] if windows else 0,
            "global_attn_indexes": everywhere,
            "num_pos_feats": decoder[1] // 2,
        }
        prompts = {
            "hidden_size": decoder[1],
            "image_size": patch[-1] * grid,
            "patch_size": patch[-1],
            "mask_input_channels": masks,
        }
        masking = {
            "hidden_size": decoder[1],
            "mlp_dim": decoder[0],
            "attention_downsample_rate": decoder[1] // internal[0],
            "iou_head_hidden_dim": state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
            "num_multimask_outputs": state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
        }
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise another_model(f"{error} is missing or of another shape", where, _MEND) from error
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=masking)
    _as_trained(config)
    config._attn_implementation = "eager"
    return config


def _count(state: Mapping[str, Tensor]) -> int:
    matches = (re.match(r"image_encoder\.blocks\.(\d+)\.", key) for key in state)
    return len({match.group(1) for match in matches if match})
