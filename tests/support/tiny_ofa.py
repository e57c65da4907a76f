"""An OFA small enough for tests, saved in both published forms, with a vocabulary of bytes."""

import argparse
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

from namepin.tools.models.ofa_vocabulary import OfaVocabulary
from namepin.tools.nets.ofa import Ofa, OfaSizes

CODES = 16
MERGES = [("Ġ", "y"), ("Ġy", "e"), ("Ġye", "s"), ("Ġ", "n"), ("Ġn", "o")]
PIECES = ["<s>", "<pad>", "</s>", "<unk>", *sorted(ByteLevel.alphabet()), *map("".join, MERGES), "<mask>"]
VOCABULARY = {piece: number for number, piece in enumerate(PIECES)}

SIZES = OfaSizes(
    vocabulary=len(PIECES) + CODES + 1000,
    width=32,
    inner=64,
    encoder_layers=2,
    decoder_layers=2,
    heads=4,
    token_bucket=16,
    image_bucket=6,
    blocks=(1, 1, 1),
)
IMAGE_SIZE = 64
"""Of the pictures that `SIZES` is asked about: 4 x 4 patches of the 6 x 6 there are places for."""


def tiny_net(seed: int = 11, sizes: OfaSizes = SIZES) -> Ofa:
    """Weights from NumPy, whose stream is the same everywhere, large enough for attention to be uneven."""
    net = Ofa(sizes)
    fill(net, seed)
    return net.eval()


def fill(net: torch.nn.Module, seed: int) -> None:
    """Draw all weights and running statistics, in the order of their names."""
    generator = np.random.default_rng(seed)
    statistics = {key: value for key, value in net.named_buffers() if "running" in key}
    with torch.no_grad():
        for name, value in sorted({**dict(net.named_parameters()), **statistics}.items()):
            noise = torch.from_numpy(generator.standard_normal(value.shape).astype(np.float32))
            value.copy_(_scaled(name, noise))


def _scaled(name: str, noise: Tensor) -> Tensor:
    if noise.ndim == 1:
        around = 1.0 if name.endswith(("weight", "c_attn", "w_resid", "running_var")) else 0.0
        spread: Tensor = around + 0.1 * (noise.abs() if name.endswith("running_var") else noise)
        return spread
    if noise.ndim == 4:
        return noise * float((1.3 / noise[0].numel()) ** 0.5)
    if "embed_tokens" in name:  # also the logits' weights; what goes in is normed
        return 0.2 * noise
    if "embed_" in name or "rel_pos" in name:
        return noise
    sharper = 2.0 if re.search(r"[qk]_(proj|linear)", name) else 1.0
    scaled: Tensor = sharper * noise / noise.shape[1] ** 0.5
    return scaled


def tiny_words() -> OfaVocabulary:
    return OfaVocabulary(VOCABULARY, MERGES, CODES, 1000)


def original_state(net: Ofa) -> dict[str, Tensor]:
    """The net's tensors, and those of OFA's checkpoints that have no use here."""
    sizes = net.sizes
    state = {key: value.clone() for key, value in net.state_dict().items()}
    words = state["encoder.embed_tokens.weight"]
    state |= {"decoder.embed_tokens.weight": words.clone(), "decoder.output_projection.weight": words.clone()}
    state |= {"encoder.version": torch.tensor([3.0]), "decoder.version": torch.tensor([3.0])}
    places = torch.zeros(sizes.image_bucket**2 + 1, sizes.width)
    state |= {"decoder.embed_image_positions.weight": places, "decoder.image_position_idx": torch.zeros(1026).long()}
    for part in ("encoder", "decoder"):
        state[f"{part}.token_rp_bucket"] = torch.zeros(1024, 1024).long()
        state[f"{part}.image_rp_bucket"] = torch.zeros(len(places), len(places)).long()
    for norm in ("image_pos_ln", "code_layernorm_embedding"):
        state |= {f"decoder.{norm}.weight": torch.ones(sizes.width), f"decoder.{norm}.bias": torch.zeros(sizes.width)}
    for layer in range(sizes.decoder_layers):
        steps = (2 * sizes.image_bucket - 1) ** 2 + 3
        state[f"decoder.image_rel_pos_table_list.{layer}.weight"] = torch.zeros(steps, sizes.heads)
    return state


def transformers_state(net: Ofa) -> dict[str, Tensor]:
    """The same under the names of OFA-Sys's transformers branch."""
    renamed = {}
    for name, value in original_state(net).items():
        for pattern, replacement in (
            (r"encoder(\.layers\.\d+)\.attn_ln", r"encoder\1.self_attn_mid_layer_norm"),
            (r"decoder(\.layers\.\d+)\.self_attn_ln", r"decoder\1.self_attn_mid_layer_norm"),
            (r"\.cross_attn_ln", ".cross_attn_mid_layer_norm"),
            (r"\.encoder_attn_layer_norm", ".cross_attn_layer_norm"),
            (r"\.encoder_attn\.", ".cross_attn."),
            (r"\.ffn_layernorm", ".ffn_layer_norm"),
        ):
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


CONFIG: dict[str, Any] = {
    "model_type": "ofa",
    "activation_function": "gelu",
    "scale_embedding": False,
    "entangle_position_embedding": False,
    "attn_scale_factor": 2.0,
    "encoder_normalize_before": True,
    "decoder_normalize_before": True,
    "code_dict_size": CODES,
}


def save_words(folder: Path) -> None:
    (folder / "vocab.json").write_text(json.dumps(VOCABULARY, ensure_ascii=False), encoding="utf-8")
    merges = "".join(f"{left} {right}\n" for left, right in MERGES)
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")


def save_folder(net: Ofa, folder: Path, *, pickled: bool = False) -> Path:
    """A folder as of the transformers branch, `weights` for every OFA tool: safetensors, or `pytorch_model.bin`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **asdict(net.sizes)}), encoding="utf-8")
    save_words(folder)
    if pickled:
        torch.save(transformers_state(net), folder / "pytorch_model.bin")
    else:
        save_file(transformers_state(net), folder / "model.safetensors")
    return folder


def save_original(net: Ofa, folder: Path, **settings: Any) -> Path:
    """A `.pt` as fairseq writes it, its settings as objects, the vocabulary beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_words(folder)
    model = argparse.Namespace(
        arch="ofa_large", activation_fn="gelu", no_scale_embedding=True, disable_entangle=True, **settings
    )
    task = argparse.Namespace(_name="refcoco", code_dict_size=CODES, num_bins=1000, patch_image_size=512)
    saved = {"args": None, "cfg": {"model": model, "task": task}, "model": original_state(net), "extra_state": {}}
    torch.save(saved, folder / "ofa.pt")
    return folder / "ofa.pt"
