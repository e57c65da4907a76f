"""A UMT on disk: one folder with its sizes, its two encoders' configurations, its weights and its tokenizer."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tools.base import file_sha256
from tools.checkpoints import read_safetensors
from tools.errors import NamepinError
from tools.nets.umt import Umt, UmtSizes
from tools.pretrained import locate

_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


def save_umt(net: Umt, tokenizer: Any, folder: Path) -> None:
    """Write a UMT so that `load_umt` reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "model_type": "namepin-umt",
        "sizes": asdict(net.sizes),
        "bert": net.bert.config.to_dict(),
        "resnet": net.resnet.config.to_dict(),
    }
    (folder / _CONFIG).write_text(json.dumps(config, indent=1, default=str), "utf-8")
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / _WEIGHTS)
    tokenizer.save_pretrained(folder)


def load_umt(weights: str | None, device: str = "cpu") -> tuple[Umt, Any, str]:
    """The net in evaluation mode, its tokenizer, and what identifies them.

    Raises:
        NamepinError: E210 when no folder is named or it is not there, E211 when a file is damaged, E212 when the
            tensors are another net's, E218 when the tokenizer is missing.
    """
    from transformers import AutoTokenizer, BertConfig, BertModel, ResNetConfig, ResNetModel

    if weights is None:
        raise NamepinError(
            "E210", "UMT has no published weights", where="examples.features.weights",
            mend="name a folder that holds a trained UMT, or use features.kind=sentence",
        )  # fmt: skip
    folder = locate(weights)
    try:
        config = json.loads((folder / _CONFIG).read_text("utf-8"))
        sizes = UmtSizes(**config["sizes"])
        bert, resnet = BertConfig.from_dict(config["bert"]), ResNetConfig.from_dict(config["resnet"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NamepinError(
            "E211", f"not a UMT's config.json: {error}", where=str(folder), mend="copy it again"
        ) from error
    net = Umt(sizes, BertModel(bert, add_pooling_layer=False), ResNetModel(resnet))
    tensors = read_safetensors(folder / _WEIGHTS)
    own = net.state_dict()
    wrong = [name for name in own.keys() | tensors.keys() if name not in own or name not in tensors
             or own[name].shape != tensors[name].shape]  # fmt: skip
    if wrong:
        mend = "give the folder that the training wrote"
        raise NamepinError("E212", f"another net's weights: {sorted(wrong)[0]}", where=str(folder), mend=mend)
    net.load_state_dict(tensors)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers raises many kinds for a missing or damaged tokenizer
        raise NamepinError("E218", "the tokenizer is missing", where=str(folder), mend="copy its files") from error
    identity = f"umt:{file_sha256(folder / _WEIGHTS)}"
    return net.eval().to(torch.device(device)), tokenizer, identity
