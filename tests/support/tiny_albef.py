"""An ALBEF small enough for tests, saved as VE.py and the pre-training save theirs, with a tokenizer of letters."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from namepin.tools.nets.albef import Albef, AlbefSizes
from support import tiny_blip

SIZES = AlbefSizes(
    image_size=64,
    vision_width=128,
    vision_inner=96,
    vision_depth=2,
    words=len(tiny_blip.WORDS),
    positions=64,
    width=128,
    inner=96,
    depth=4,
    fusion=2,
)


def tiny_net(classes: int = 3, seed: int = 0, kinds: bool = True) -> Albef:
    """Weights from NumPy, whose stream is the same everywhere, large enough for attention to be uneven."""
    net = Albef(replace(SIZES, classes=classes, kinds=kinds))
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.from_numpy(np.asarray(generator.standard_normal(parameter.shape), dtype=np.float32))
            is_norm = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(1 + 0.1 * noise if is_norm else 0.15 * noise)
    return net.eval()


def fine_tuned_state(net: Albef) -> dict[str, Tensor]:
    """The net's tensors beside those that a run of VE.py leaves with them: BERT's places, and the momentum copies."""
    state = {key: value.clone() for key, value in net.state_dict().items()}
    momentum = {f"{part}_m.{rest}": value for key, value in state.items() for part, _, rest in [key.partition(".")]}
    return {**state, **momentum, "text_encoder.embeddings.position_ids": torch.arange(SIZES.positions)[None]}


def pre_trained_state(net: Albef) -> dict[str, Tensor]:
    """The same under the names of pre-training: BERT one name deeper, other heads, queues, no entailment head."""
    state = {}
    for key, value in fine_tuned_state(net).items():
        if not key.startswith("cls_head"):
            state[key.replace("text_encoder.", "text_encoder.bert.").replace("encoder_m.", "encoder_m.bert.")] = value
    heads = ("vision_proj", "text_proj", "vision_proj_m", "text_proj_m", "itm_head")
    rest = {f"{head}.weight": torch.zeros(2, SIZES.width) for head in heads}
    rest |= {"text_encoder.cls.predictions.bias": torch.zeros(SIZES.words), "temp": torch.tensor(0.07)}
    rest |= {"image_queue": torch.zeros(2, 4), "text_queue": torch.zeros(2, 4), "queue_ptr": torch.zeros(1).long()}
    return {**state, **rest}


def save(net: Albef, folder: Path) -> tuple[Path, Path]:
    """A fine-tuned checkpoint, and the tokenizer's folder."""
    saved = {"model": fine_tuned_state(net), "optimizer": {"state": {}}, "config": {"image_res": 64}, "epoch": 4}
    torch.save(saved, folder / "albef_tiny.pth")
    tiny_blip.tiny_tokenizer().save_pretrained(folder / "bert")
    return folder / "albef_tiny.pth", folder / "bert"
