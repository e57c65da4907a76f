"""A folder with a trained UMT: `config.json`, `model.safetensors`, and BERT's tokenizer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from namepin.tools.base import digest, file_sha256
from namepin.tools.errors import NamepinError
from namepin.tools.images.tensors import squash
from namepin.tools.loading.encoder import read_safetensors
from namepin.tools.loading.pretrained import another_model, check_names, load_tokenizer, read_json
from namepin.tools.models.match_texts import MatchTexts
from namepin.tools.nets.umt import Umt, UmtBatch

KIND = "umt"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's pictures, with which ResNets are trained."""
MEND = "give a folder that `save_umt` wrote"


@dataclass(frozen=True)
class UmtCheckpoint:
    """The net in evaluation mode, its tokenizer, the side of its square pictures, and a digest of all three."""

    net: Umt
    tokenizer: Any
    image_size: int
    sha256: str

    def features(
        self, texts: Sequence[str], pictures: Sequence[Image.Image | None], longest: int, device: torch.device
    ) -> Tensor:
        """Mean of the multimodal hidden states over each text's word pieces, [CLS] and [SEP] left out: (B, 2H).

        Pictures are squashed to the net's square. UMT's own code crops a random square, also in evaluation, so that no
        two of its runs agree.
        """
        longest = min(longest, self.net.text.config.max_position_embeddings)
        words, _ = MatchTexts(self.tokenizer, self.tokenizer.cls_token_id, longest, device).plain(texts)
        side = self.image_size
        shown = [torch.zeros(3, side, side) if p is None else squash(p, side, MEAN, STD) for p in pictures]
        mask = words.mask.bool()
        fused, _ = self.net(UmtBatch(words.ids, mask, torch.stack(shown).to(device)))
        # Without [CLS] at the start and [SEP] at each row's end, unless a text has no other pieces.
        inner = mask & mask.roll(-1, 1)
        inner[:, 0], inner[:, -1] = False, False
        inner = torch.where(inner.any(1, keepdim=True), inner, mask).unsqueeze(2)
        mean: Tensor = (fused * inner).sum(1) / inner.sum(1)
        return mean


def build_umt(config: dict[str, Any]) -> Umt:
    """The net of a `config.json`, with random weights: `text` (BERT), `vision` (ResNet), `num_types`, `dropout`."""
    from transformers import BertConfig, BertModel, ResNetConfig, ResNetModel

    text = BertModel(BertConfig.from_dict(config["text"]), add_pooling_layer=False)
    vision = ResNetModel(ResNetConfig.from_dict(config["vision"]))
    return Umt(text, vision, config["num_types"], config.get("dropout", 0.1))


def load_umt(folder: Path) -> UmtCheckpoint:
    """Read a folder, after checking that all tensors fit.

    Raises:
        NamepinError: E210 missing, E211 damaged, E212 of another model, E218 no tokenizer.
    """
    config = read_json(folder / "config.json")
    where = str(folder)
    if config.get("model_type") != KIND:
        raise another_model(f"the checkpoint is of the kind {config.get('model_type')!r}, not {KIND!r}", where, MEND)
    try:
        net = build_umt(config)
        side = int(config["image_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise NamepinError(
            "E211", f"config.json is incomplete: {error!r}", where=where, mend="copy it again"
        ) from error
    state = read_safetensors(folder / "model.safetensors")
    try:
        report = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise another_model("its tensors do not have the shapes of config.json", where, MEND) from error
    check_names(set(report.missing_keys), set(report.unexpected_keys), where, MEND)
    tokenizer = load_tokenizer(where, net.text.config.vocab_size)
    settings = {key: config[key] for key in ("text", "vision", "num_types", "image_size")}
    sha256 = digest([file_sha256(folder / "model.safetensors"), json.dumps(settings, sort_keys=True)])
    return UmtCheckpoint(net.eval(), tokenizer, side, sha256)


def save_umt(net: Umt, tokenizer: Any, folder: Path, image_size: int = 224) -> None:
    """Write a folder for `load_umt`."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / "model.safetensors")
    config = {
        "model_type": KIND,
        "text": net.text.config.to_dict(),
        "vision": net.vision.config.to_dict(),
        "num_types": (net.crf.num_tags - 1) // 2,
        "dropout": net.dropout.p,
        "image_size": image_size,
    }
    tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=1), "utf-8")
