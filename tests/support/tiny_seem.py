"""A SEEM small enough for tests, saved as the published files are, with a tokenizer of letters."""

import string
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

from namepin.tools.nets.seem import Seem, SeemSizes
from namepin.tools.nets.seem.davit import DavitSizes
from namepin.tools.nets.seem.focal import FocalSizes

LETTERS = string.ascii_lowercase + string.digits
VOCABULARY = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
BACKBONES = {
    "focal-t": FocalSizes(width=8, depths=(1, 1, 2, 1), levels=2, window=3, depthwise=True),
    "focal-l": FocalSizes(width=8, depths=(1, 1, 2, 1), levels=3, window=3, depthwise=False),
    "davit": DavitSizes(widths=(32, 64, 64, 64), depths=(1, 1, 2, 1), kernel=2),
    "davit-overlap": DavitSizes(widths=(32, 64, 64, 64), depths=(1, 1, 1, 1), kernel=3),
}
SIZES = SeemSizes(
    backbone=BACKBONES["focal-t"],
    width=128,
    masks=128,
    inner=32,
    decoder_inner=48,
    encoder_depth=1,
    depth=4,
    queries=7,
    projection=128,
    words=len(VOCABULARY),
    positions=12,
    text_width=64,
    text_depth=2,
)


def tiny_net(backbone: str = "focal-t", seed: int = 0) -> Seem:
    """Weights from NumPy, whose stream is the same everywhere, large enough for attention to be uneven."""
    net = Seem(replace(SIZES, backbone=BACKBONES[backbone]))
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.from_numpy(np.asarray(generator.standard_normal(parameter.shape), dtype=np.float32))
            if parameter.dim() < 2:
                parameter.copy_(1 + 0.1 * noise if name.endswith(("weight", "scale", "gamma_1")) else 0.3 * noise)
            else:
                table = any(part in name for part in ("embedding", "query_", "level_embed", "pn_indicator"))
                parameter.copy_(noise if table else 1.5 * noise / parameter[0].numel() ** 0.5)
    return net.eval()


def published_state(net: Seem) -> dict[str, torch.Tensor]:
    """The net's tensors beside those of the published files that only training or repeated strokes need."""
    head = "sem_seg_head.predictor."
    rest = {f"{head}spatial_embed.weight": torch.zeros(32, 128), f"{head}spatial_featured.weight": torch.zeros(32, 128)}
    return {**net.state_dict(), **rest, "criterion.empty_weight": torch.ones(5), "dilation_kernel": torch.ones(1)}


def save(net: Seem, folder: Path) -> tuple[Path, Path]:
    """The checkpoint, and the tokenizer's folder."""
    torch.save(published_state(net), folder / "seem_tiny_v0.pt")
    words = CLIPTokenizer(vocab={piece: i for i, piece in enumerate(VOCABULARY)}, merges=[])
    words.save_pretrained(folder / "clip")
    return folder / "seem_tiny_v0.pt", folder / "clip"
