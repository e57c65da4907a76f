"""A BLIP small enough for tests, saved in both checkpoint forms, and the tracing a reader would write first: a loop."""

import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import BertTokenizer, BlipConfig, BlipForImageTextRetrieval

from namepin.tools.interfaces import Query
from namepin.tools.types import ImageRef

LETTERS = string.ascii_lowercase + string.digits + "_.'#-"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "is", "belong", *LETTERS, *(f"##{c}" for c in LETTERS)]
VOCABULARY = len(WORDS) + 2
"""As BLIP's: the tokenizer's words, then [DEC] and [ENC], which only the embeddings know."""

QUERIES = (
    Query(text="Ada Example", label="PER", category="athlete"),
    Query(text="NASA", label="ORG", category="organization_other"),
    Query(text="a", label="LOC", category="LOC"),
)
PICTURE = Image.fromarray(np.random.default_rng(5).integers(0, 256, (30, 50, 3), dtype=np.uint8))


def image_ref(image: Image.Image, key: str = "ab") -> ImageRef:
    return ImageRef(sha256=(key * 64)[:64], width=image.width, height=image.height)


def tiny_tokenizer() -> BertTokenizer:
    return BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)})


def tiny_net(image_size: int = 64, seed: int = 0) -> BlipForImageTextRetrieval:
    """Weights from NumPy, whose stream is the same everywhere, large enough for attention to be uneven."""
    config = BlipConfig(
        vision_config={
            "hidden_size": 128,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": image_size,
            "patch_size": 16,
            "layer_norm_eps": 1e-6,
        },
        text_config={
            "vocab_size": VOCABULARY,
            "hidden_size": 128,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "max_position_embeddings": 64,
        },
        image_text_hidden_size=16,
    )
    net = BlipForImageTextRetrieval(config)
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.from_numpy(generator.standard_normal(parameter.shape).astype(np.float32))
            is_norm = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else 0.15 * noise)
    return net.eval()


def save_folder(net: BlipForImageTextRetrieval, folder: Path) -> Path:
    net.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def original_state(net: BlipForImageTextRetrieval) -> dict[str, Tensor]:
    """The net under the names of Salesforce's files, with what a training run leaves beside it."""
    renamed = {}
    for name, value in net.state_dict().items():
        for new, old in (
            ("vision_model.embeddings.class_embedding", "visual_encoder.cls_token"),
            ("vision_model.embeddings.position_embedding", "visual_encoder.pos_embed"),
            ("vision_model.embeddings.patch_embedding", "visual_encoder.patch_embed.proj"),
            ("vision_model.post_layernorm", "visual_encoder.norm"),
            ("vision_model.encoder.layers", "visual_encoder.blocks"),
            (".layer_norm1", ".norm1"),
            (".layer_norm2", ".norm2"),
            (".self_attn.qkv", ".attn.qkv"),
            (".self_attn.projection", ".attn.proj"),
        ):
            name = name.replace(new, old)
        renamed[name] = value.clone()
    momentum = {name.replace("encoder.", "encoder_m.", 1): value for name, value in renamed.items()}
    rest = {"temp": torch.tensor(0.07), "image_queue": torch.zeros(16, 4), "ptr_queue": torch.zeros(1)}
    rest["text_encoder.embeddings.position_ids"] = torch.arange(64)[None]
    return renamed | {name: value for name, value in momentum.items() if "_m." in name} | rest


def naive_trace(
    net: BlipForImageTextRetrieval, pixels: Tensor, query: Query, block: int, first: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """One text, one whole pass through picture and text, as LAVIS computes it, with loops where the paper has sums.

    Returns logits (2), attention and gradient (heads, tokens, 1 + patches), and the map (patches).
    """
    text = f"{query.text} is belong {query.category}."
    ids = torch.tensor([tiny_tokenizer()(text)["input_ids"]])
    ids[0, 0] = first
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: tuple[Tensor, Tensor]) -> None:
        output[1].retain_grad()
        seen.append(output[1])

    handle = net.text_encoder.encoder.layer[block].crossattention.self.register_forward_hook(keep)
    logits = net(input_ids=ids, pixel_values=pixels[None], attention_mask=torch.ones_like(ids)).itm_score[0]
    handle.remove()
    logits[1].backward()
    assert seen[0].grad is not None
    attention, gradient = seen[0].detach()[0], seen[0].grad[0]
    heads, tokens, patches = attention.shape
    total = torch.zeros(patches - 1)
    for token in range(1, tokens - 1):
        for head in range(heads):
            for patch in range(1, patches):
                weight = max(0.0, float(gradient[head, token, patch]))
                total[patch - 1] += weight * attention[head, token, patch] / heads / (tokens - 2)
    return logits.detach(), attention, gradient, total
