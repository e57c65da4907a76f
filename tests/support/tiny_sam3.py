"""A SAM 3 of random weights and its tokenizer."""

import numpy as np
import torch
from transformers import CLIPTokenizer, Sam3Model
from transformers import Sam3Config as Sizes

from support import tiny_seem


def tiny_net() -> Sam3Model:
    small = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 24, "num_layers": 1}
    sizes = Sizes(
        vision_config={
            "backbone_config": {
                "hidden_size": 32,
                "intermediate_size": 24,
                "num_hidden_layers": 2,
                "num_attention_heads": 2,
                "image_size": 112,
                "patch_size": 14,
                "window_size": 4,
                "global_attn_indexes": [1],
                "pretrain_image_size": 56,
                "model_type": "sam3_vit_model",
            },
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
        },
        text_config={
            "vocab_size": len(tiny_seem.VOCABULARY),
            "hidden_size": 32,
            "intermediate_size": 24,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "projection_dim": 16,
            "max_position_embeddings": 32,
            "bos_token_id": 72,
            "eos_token_id": 73,
            "model_type": "clip_text_model",
        },
        geometry_encoder_config=small,
        detr_encoder_config=small,
        detr_decoder_config=small | {"num_queries": 6},
        mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
    )
    sizes._attn_implementation = "eager"
    torch.manual_seed(0)
    net = Sam3Model(sizes)
    generator = np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.from_numpy(np.asarray(generator.standard_normal(parameter.shape), dtype=np.float32))
            is_norm = "norm" in name and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else 0.3 * noise)
    return net.eval()


def words() -> CLIPTokenizer:
    return CLIPTokenizer(vocab={piece: i for i, piece in enumerate(tiny_seem.VOCABULARY)}, merges=[])
