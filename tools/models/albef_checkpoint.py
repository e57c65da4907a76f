"""ALBEF's weights (BSD-3-Clause), as Salesforce's code saves them: `{"model": tensors, "optimizer": ..., ...}`.

Two kinds of file are read, both without running code. The first may also be a folder with `model.safetensors` and,
optionally, a tokenizer:

- tuned for visual entailment: two encoders and the head. `VE.py` saves it (`checkpoint_best.pth`), and LAVIS publishes
  one for SNLI-VE (`albef_snli_ve_lavis.pt`), whose text encoder has no token type embeddings;
- pre-trained (`ALBEF.pth` on 14 million pictures, `ALBEF_4M.pth`): without such a head, its text encoder under
  `text_encoder.bert.`. Training starts from it and adds a new head; entailment needs a tuned one.

Tensors that only training uses are skipped (`_TRAINING_ONLY`): the momentum copies (`*_m`), queues and temperature, and
the heads of pre-training (contrast, matching, masked words). Any other unknown name is an error.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from namepin.tools.loading.pickles import read_checkpoint
from namepin.tools.loading.pretrained import (
    another_model,
    load_errors,
    load_exactly,
    load_tokenizer,
    weight_files,
)
from namepin.tools.nets.albef import Albef, AlbefSizes, entailment_head

_MEND = "take an ALBEF tuned for visual entailment: LAVIS's albef_snli_ve_lavis.pt, or `namepin finetune entailment`"

_TRAINING_ONLY = re.compile(
    r"\w+_m\.|(image|text|idx)_queue$|queue_ptr$|ptr_queue$|temp$|(vision|text)_proj\.|itm_head\."
    r"|text_encoder\.(cls\.|embeddings\.position_ids$)"
)
_HEAD = "cls_head.2.weight"


@dataclass(frozen=True)
class AlbefCheckpoint:
    """A loaded checkpoint.

    Attributes:
        net: float32, evaluation mode, on the CPU.
        tokenizer: BERT's.
        identity: sha256 of weights, sizes and vocabulary; models of equal identity compute the same.
    """

    net: Albef
    tokenizer: Any
    identity: str


def load_albef(path: Path, sha256: str, *, tokenizer: str, image_size: int) -> AlbefCheckpoint:
    """Load an ALBEF that judges entailment.

    Args:
        path: the file or folder.
        sha256: `weights_sha256(path)`.
        tokenizer: folder or hub name of bert-base-uncased's, for weights without a tokenizer.
        image_size: see `from_state`.

    Raises:
        NamepinError: E211 damaged, truncated or not finite, E212 weights of another model, E214 a pickle with code in
            it, E217 an impossible `image_size`, E218 no tokenizer, or one that does not fit.
    """
    net = from_state(read_tensors(path), str(path), image_size)
    loaded_tokenizer = load_tokenizer(_tokenizer_place(path, tokenizer), net.sizes.words)
    return AlbefCheckpoint(
        net.eval(), loaded_tokenizer, digest([sha256, asdict(net.sizes), loaded_tokenizer.get_vocab()])
    )


def albef_to_train(path: Path, *, tokenizer: str, image_size: int) -> tuple[Albef, Any]:
    """An ALBEF and its tokenizer. A pre-trained ALBEF gets a new entailment head of two classes.

    Raises:
        NamepinError: as `load_albef`.
    """
    state = read_tensors(path)
    net = from_state(state, str(path), image_size, new_head=None if _HEAD in state else 2)
    return net, load_tokenizer(_tokenizer_place(path, tokenizer), net.sizes.words)


def save_albef(net: Albef, tokenizer: Any, folder: Path) -> None:
    """Write a folder that `load_albef` reads: weights and tokenizer."""
    state = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)


def _tokenizer_place(path: Path, tokenizer: str) -> str:
    return str(path) if any((path / name).is_file() for name in ("tokenizer.json", "vocab.txt")) else tokenizer


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a `.pth` file, or of the weights in a folder.

    Raises:
        NamepinError: E210 when a folder has none, E211, E212 and E214 as `read_checkpoint`.
    """
    tensors: dict[str, Tensor] = {}
    for file in weight_files(path):
        if file.suffix != ".safetensors":
            tensors |= read_checkpoint(file)
            continue
        with load_errors(str(file)):
            tensors |= load_file(file)
    return tensors


def from_state(state: Mapping[str, Tensor], where: str, image_size: int, new_head: int | None = None) -> Albef:
    """The net of a checkpoint's tensors, with sizes from their shapes.

    Args:
        state: tensors by name.
        where: the file, for messages.
        image_size: side of the input pictures, a multiple of the patch size. Position embeddings of another size are
            resized (bicubic), as in the authors' code.
        new_head: for training: number of classes of a new, randomly initialised head; None keeps the checkpoint's head.

    Raises:
        NamepinError: E211 when a number is not finite, E212 when a tensor is missing, left over or of another shape,
            E217 when `image_size` is not a multiple of the patch.
    """
    loaded = {_name(key): value.float() for key, value in state.items() if not _TRAINING_ONLY.match(_name(key))}
    if new_head is None and _HEAD not in loaded:
        raise another_model("it has no entailment head (cls_head)", where, _MEND)
    try:
        sizes = _sizes(loaded, image_size, new_head)
    except (KeyError, IndexError, ValueError) as error:
        raise another_model(f"{error} is missing or of another shape", where, _MEND) from error
    if image_size % sizes.patch:
        raise NamepinError(
            "E217",
            f"pictures of {image_size} pixels cannot be cut into patches of {sizes.patch}",
            where=where,
            mend=f"set image_size to a multiple of {sizes.patch}; ALBEF's own is 384",
        )
    loaded["visual_encoder.pos_embed"] = resize_positions(loaded["visual_encoder.pos_embed"], sizes.grid)
    if new_head is not None:
        fresh = entailment_head(sizes.width, new_head).state_dict()
        loaded |= {f"cls_head.{key}": value for key, value in fresh.items()}
    with torch.device("meta"):
        net = Albef(sizes)
    load_exactly(net, loaded, where, _MEND)
    return net


def _name(key: str) -> str:
    """A tensor's name as in fine-tuned checkpoints; pre-trained ones have one more prefix for BERT."""
    return key.replace("text_encoder.bert.", "text_encoder.", 1)


def _sizes(state: Mapping[str, Tensor], image_size: int, new_head: int | None) -> AlbefSizes:
    def shape(name: str) -> torch.Size:
        return state[name].shape

    depth = _layers(state, r"text_encoder\.encoder\.layer\.(\d+)\.")
    fused = _layers(state, r"text_encoder\.encoder\.layer\.(\d+)\.crossattention\.")
    patches = shape("visual_encoder.patch_embed.proj.weight")
    embeddings = shape("text_encoder.embeddings.word_embeddings.weight")
    if math.isqrt(shape("visual_encoder.pos_embed")[1] - 1) ** 2 != shape("visual_encoder.pos_embed")[1] - 1:
        raise ValueError("visual_encoder.pos_embed")
    if new_head is None and shape(_HEAD)[0] not in (2, 3):
        raise ValueError(f"{_HEAD}, which should know 2 or 3 classes,")
    if patches[0] % AlbefSizes.head or embeddings[1] % AlbefSizes.head:
        raise ValueError("a width that is not a multiple of 64")
    return AlbefSizes(
        image_size=image_size,
        patch=patches[-1],
        vision_width=patches[0],
        vision_inner=shape("visual_encoder.blocks.0.mlp.fc1.weight")[0],
        vision_depth=_layers(state, r"visual_encoder\.blocks\.(\d+)\."),
        words=embeddings[0],
        positions=shape("text_encoder.embeddings.position_embeddings.weight")[0],
        width=embeddings[1],
        inner=shape("text_encoder.encoder.layer.0.intermediate.dense.weight")[0],
        depth=depth,
        fusion=depth - fused,
        kinds="text_encoder.embeddings.token_type_embeddings.weight" in state,
        classes=new_head or shape(_HEAD)[0],
    )


def _layers(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})


def resize_positions(positions: Tensor, grid: int) -> Tensor:
    """Position embeddings (1, 1 + patches, width) for `grid` rows and columns; the class token's does not change."""
    side = math.isqrt(positions.shape[1] - 1)
    if side == grid:
        return positions
    square = positions[:, 1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    square = functional.interpolate(square, size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat([positions[:, :1], square.flatten(2).transpose(1, 2)], dim=1)
