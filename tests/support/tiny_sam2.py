"""A SAM 2 of random weights."""

import numpy as np
import torch
from transformers import Sam2Config as Sizes
from transformers import Sam2HieraDetConfig, Sam2Model, Sam2VisionConfig


def tiny_net(seed: int = 0) -> Sam2Model:
    hiera = Sam2HieraDetConfig(
        hidden_size=8,
        image_size=[128, 128],
        blocks_per_stage=[1, 1, 2, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[4, 2, 4, 2],
        global_attention_blocks=[3],
        window_positional_embedding_background_size=[3, 3],
    )
    vision = Sam2VisionConfig(
        backbone_config=hiera,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        fpn_hidden_size=32,
    )
    sizes = Sizes(
        vision_config=vision,
        prompt_encoder_config={"hidden_size": 32, "image_size": 128, "mask_input_channels": 8},
        mask_decoder_config={"hidden_size": 32, "mlp_dim": 20, "num_attention_heads": 2, "iou_head_hidden_dim": 24},
    )
    sizes._attn_implementation = "eager"
    torch.manual_seed(seed)  # for the positions' matrix, which is a buffer
    net = Sam2Model(sizes)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.from_numpy(generator.standard_normal(parameter.shape).astype(np.float32))
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else 0.3 * noise)
    return net.eval()
