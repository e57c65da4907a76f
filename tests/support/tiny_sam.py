"""A SAM small enough for tests, saved in both checkpoint forms, and a picture."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import SamConfig, SamModel

from namepin.tools.interfaces import Query, SegmentPrompt, SegmentRequest
from namepin.tools.models.sam_checkpoint import translate
from namepin.tools.types import Box, ImageRef, Point

PICTURE = Image.fromarray(np.random.default_rng(5).integers(0, 256, (30, 50, 3), dtype=np.uint8))
QUERY = Query(text="Ada Example", label="PER", category="athlete")


def image_ref(image: Image.Image, key: str = "ab") -> ImageRef:
    return ImageRef(sha256=(key * 64)[:64], width=image.width, height=image.height)


def prompt(peak: Point | None = None, box: Box | None = None) -> SegmentPrompt:
    return SegmentPrompt(query=QUERY, peak=peak, box=box)


def request(*prompts: SegmentPrompt, image: Image.Image = PICTURE) -> SegmentRequest:
    return SegmentRequest(image=image_ref(image), prompts=prompts)


def tiny_net(seed: int = 0) -> SamModel:
    """Weights from NumPy, whose stream is the same everywhere; windows of 3 on a grid of 4, so that padding counts."""
    config = SamConfig(
        vision_config={
            "hidden_size": 16,
            "mlp_dim": 24,
            "output_channels": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 64,
            "patch_size": 16,
            "window_size": 3,
            "global_attn_indexes": [1],
            "num_pos_feats": 16,
        },
        prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 16, "mask_input_channels": 8},
        mask_decoder_config={
            "hidden_size": 32,
            "mlp_dim": 20,
            "iou_head_hidden_dim": 24,
            "layer_norm_eps": 1e-5,
        },
    )
    config._attn_implementation = "eager"
    net = SamModel(config)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.from_numpy(generator.standard_normal(parameter.shape).astype(np.float32))
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else 0.3 * noise)
    return net.eval()


ORIGINAL = {
    "image_encoder.pos_embed": "vision_encoder.pos_embed",
    "image_encoder.patch_embed.proj.bias": "vision_encoder.patch_embed.projection.bias",
    "image_encoder.blocks.2.norm1.weight": "vision_encoder.layers.2.layer_norm1.weight",
    "image_encoder.blocks.1.attn.rel_pos_h": "vision_encoder.layers.1.attn.rel_pos_h",
    "image_encoder.blocks.0.mlp.lin2.bias": "vision_encoder.layers.0.mlp.lin2.bias",
    "image_encoder.neck.3.weight": "vision_encoder.neck.layer_norm2.weight",
    "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix": (
        "prompt_encoder.shared_embedding.positional_embedding"
    ),
    "prompt_encoder.point_embeddings.3.weight": "prompt_encoder.point_embed.3.weight",
    "prompt_encoder.no_mask_embed.weight": "prompt_encoder.no_mask_embed.weight",
    "prompt_encoder.mask_downscaling.4.bias": "prompt_encoder.mask_embed.layer_norm2.bias",
    "mask_decoder.iou_token.weight": "mask_decoder.iou_token.weight",
    "mask_decoder.transformer.layers.1.norm4.bias": "mask_decoder.transformer.layers.1.layer_norm4.bias",
    "mask_decoder.transformer.layers.1.self_attn.q_proj.bias": (
        "mask_decoder.transformer.layers.1.self_attn.q_proj.bias"
    ),
    "mask_decoder.transformer.norm_final_attn.bias": "mask_decoder.transformer.layer_norm_final_attn.bias",
    "mask_decoder.output_upscaling.3.weight": "mask_decoder.upscale_conv2.weight",
    "mask_decoder.output_hypernetworks_mlps.2.layers.0.bias": "mask_decoder.output_hypernetworks_mlps.2.proj_in.bias",
    "mask_decoder.output_hypernetworks_mlps.2.layers.1.bias": "mask_decoder.output_hypernetworks_mlps.2.layers.0.bias",
    "mask_decoder.iou_prediction_head.layers.2.bias": "mask_decoder.iou_prediction_head.proj_out.bias",
}
"""Names as the original files have them, one of each kind, and what they are called in transformers."""


def original_state(net: SamModel) -> dict[str, Tensor]:
    """The net under the names of the original files, which `ORIGINAL` shows one of each kind of."""
    parts = {
        "neck": ("conv1", "layer_norm1", "conv2", "layer_norm2"),
        "mask_downscaling": ("conv1", "layer_norm1", "", "conv2", "layer_norm2", "", "conv3"),
        "output_upscaling": ("upscale_conv1", "upscale_layer_norm", "", "upscale_conv2"),
    }
    state = {}
    for name, value in net.state_dict().items():
        if name.startswith("shared_image_embedding"):
            continue
        head = name.startswith("mask_decoder") and ("mlps" in name or "head" in name)
        if head:
            name = name.replace(".layers.0.", ".layers.1.")
            name = name.replace(".proj_in.", ".layers.0.").replace(".proj_out.", ".layers.2.")
        for i, part in enumerate(parts["neck"]):
            name = name.replace(f"neck.{part}.", f"neck.{i}.")
        for i, part in enumerate(parts["mask_downscaling"]):
            name = name.replace(f"mask_embed.{part}.", f"mask_downscaling.{i}.")
        for i, part in enumerate(parts["output_upscaling"]):
            name = name.replace(f"mask_decoder.{part}.", f"mask_decoder.output_upscaling.{i}.") if part else name
        for new, old in (
            ("vision_encoder.layers", "image_encoder.blocks"),
            ("vision_encoder.patch_embed.projection", "image_encoder.patch_embed.proj"),
            ("vision_encoder", "image_encoder"),
            ("shared_embedding.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
            (".point_embed.", ".point_embeddings."),
            (".layer_norm_final_attn", ".norm_final_attn"),
            (".layer_norm", ".norm"),
        ):
            name = name.replace(new, old)
        state[name] = value.clone()
    assert translate(ORIGINAL) == ORIGINAL and set(ORIGINAL) <= set(state)
    return state


def save_folder(net: SamModel, folder: Path) -> Path:
    net.save_pretrained(folder)
    return folder
