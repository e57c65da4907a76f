"""An OWLv2 of random weights, in a folder with the files that the hub has: CLIP's vocabulary in two files."""

import json
from pathlib import Path

import torch
from transformers import Owlv2Config, Owlv2ForObjectDetection

SIDE, PATCH = 64, 16
LETTERS = [chr(code) for code in range(33, 127)]
VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]


def tiny_net(seed: int = 0) -> Owlv2ForObjectDetection:
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Owlv2Config(
        text_config={**sizes, "vocab_size": len(VOCABULARY), "max_position_embeddings": 16,
                     "bos_token_id": len(VOCABULARY) - 2, "eos_token_id": len(VOCABULARY) - 1},
        vision_config={**sizes, "image_size": SIDE, "patch_size": PATCH},
        projection_dim=32,
    )  # fmt: skip
    torch.manual_seed(seed)
    net = Owlv2ForObjectDetection(config)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2)
            elif "norm" not in name:
                parameter.normal_(0, 0.1)
    return net.eval()


def save(folder: Path, seed: int = 0) -> Path:
    tiny_net(seed).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({piece: i for i, piece in enumerate(VOCABULARY)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
               "pad_token": "!"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer", **special}))
    normal = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "Owlv2ImageProcessor", **normal})
    )
    return folder
