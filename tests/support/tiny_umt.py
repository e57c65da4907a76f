"""A UMT and a CLIP small enough for tests, their weights from a seed."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, BertModel, CLIPConfig, CLIPModel, ResNetConfig
from transformers import ResNetModel as ResNet

from namepin.tools.models.umt_checkpoint import save_umt
from namepin.tools.nets.umt import Umt
from support.tiny_blip import tiny_tokenizer
from support.tiny_encoders import save_tiny_bert

SIDE = 64


def tiny_umt(folder: Path, num_types: int = 4, seed: int = 0) -> tuple[Umt, Any]:
    """The net, in evaluation mode, and a tokenizer; `folder` holds the text encoder it begins with."""
    bert = save_tiny_bert(folder)
    text = BertModel.from_pretrained(bert, add_pooling_layer=False)
    torch.manual_seed(seed)
    vision = ResNet(
        ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_channels=3)
    )
    net = Umt(text, vision, num_types)
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2)
    return net.eval(), AutoTokenizer.from_pretrained(bert)


def save_tiny_umt(folder: Path) -> Path:
    """As `save_umt` writes it."""
    save_umt(*tiny_umt(folder / "bert"), folder / "umt", image_size=SIDE)
    return folder / "umt"


def save_tiny_clip(folder: Path) -> Path:
    """A CLIP folder with a tokenizer."""
    tokenizer = tiny_tokenizer()
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={
            **sizes,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 77,
            "eos_token_id": tokenizer.sep_token_id,
        },
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        projection_dim=16,
    )
    CLIPModel(config).save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "clip")
    return folder / "clip"
