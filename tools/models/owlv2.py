"""OWLv2, an open-vocabulary detector (Apache-2.0, code and weights), from transformers folders.

A picture is encoded once, whatever is looked for. transformers' own processor needs torchvision or a slow resize of
scipy, so this module prepares pictures itself: padded to a square with grey at the right and below, as in training.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from namepin.tools.caching.lru import LruCache
from namepin.tools.errors import NamepinError
from namepin.tools.geometry import Rectangle
from namepin.tools.images.tensors import normalise
from namepin.tools.loading.pretrained import (
    another_model,
    device_named,
    identity,
    load_folder,
    load_tokenizer,
    normalisation,
    shared_model,
)
from namepin.tools.models.config import Owlv2Config

_MEND = "take OWLv2 in transformers' form, such as google/owlv2-base-patch16-ensemble"
_GREY = (128, 128, 128)


class _Encoded(NamedTuple):
    """An encoded picture.

    Attributes:
        features: (places, hidden).
        boxes: (places, 4), left, top, right, bottom in pixels of the picture; they may reach beyond it.
        inside: (places,), whether a box's middle is in the picture, and its part there is not empty.
    """

    features: Tensor
    boxes: Tensor
    inside: Tensor


class Owlv2:
    """A loaded OWLv2, safe for several threads."""

    def __init__(self, config: Owlv2Config, net: Any, tokenizer: Any, sha256: str, folder: Path) -> None:
        """Check that the picture's size fits the net, and move the net.

        Raises:
            NamepinError: E216 no such device, E217 when `image_size` is not a multiple of the net's patch.
        """
        self.config, self._tokenizer = config, tokenizer
        self.device = device_named(config.device)
        vision = net.config.vision_config
        if config.image_size % vision.patch_size:
            what = f"image_size {config.image_size} is not a multiple of the net's patch of {vision.patch_size} pixels"
            raise NamepinError("E217", what, where=config.weights, mend=f"try {vision.image_size}")
        self._net = net.eval().requires_grad_(False).to(self.device)
        self._interpolates = config.image_size != vision.image_size
        self._longest = int(net.config.text_config.max_position_embeddings)
        self._mean, self._std = normalisation(folder)
        self.identity = identity(sha256, net, config.image_size, str(next(net.parameters()).dtype))
        self._pictures: LruCache[str, _Encoded] = LruCache(config.cached_pictures)

    def best(self, sha256: str, image: Image.Image, texts: Sequence[str]) -> list[tuple[float, Rectangle]]:
        """For each text the best place in the picture: its score (0 to 1), and its box, which may reach beyond it.

        Args:
            sha256: names the picture; an encoded picture is kept under it.
            image: upright, RGB.
            texts: what is looked for.
        """
        if not texts:
            return []
        encoded = self._pictures.get(sha256)
        if encoded is None:
            encoded = self._encode(image)
            self._pictures.put(sha256, encoded)
        with torch.inference_mode():
            logits = self._net.class_predictor(encoded.features[None], self._words(texts)[None])[0][0].float()
        logits = logits.masked_fill(~encoded.inside[:, None], -torch.inf)
        scores, places = logits.sigmoid().max(dim=0)
        return [
            (float(score), tuple(encoded.boxes[place].tolist()))
            for score, place in zip(scores, places.tolist(), strict=True)
        ]

    def _encode(self, image: Image.Image) -> _Encoded:
        side, size = max(image.size), self.config.image_size
        square = Image.new("RGB", (side, side), _GREY)
        square.paste(image, (0, 0))
        pixels = normalise(square.resize((size, size), Image.Resampling.BILINEAR), self._mean, self._std)
        dtype = next(self._net.parameters()).dtype
        with torch.inference_mode():
            grid, _ = self._net.image_embedder(
                pixels[None].to(self.device, dtype), interpolate_pos_encoding=self._interpolates
            )
            features = grid.flatten(1, 2)
            found = self._net.box_predictor(features, grid, interpolate_pos_encoding=self._interpolates)[0].float()
        middle, half = found[:, :2] * side, found[:, 2:] * side / 2
        limits = torch.tensor(image.size, device=self.device)
        part = torch.minimum(middle + half, limits) - (middle - half).clamp(min=0)
        inside = ((middle >= 0) & (middle < limits) & (part > 0)).all(dim=1)
        return _Encoded(features[0], torch.cat([middle - half, middle + half], dim=1), inside)

    def _words(self, texts: Sequence[str]) -> Tensor:
        """The texts' embeddings, (texts, hidden); a text beyond the net's 16 tokens is cut."""
        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self._longest, return_tensors="pt"
        ).to(self.device)
        found = self._net.owlv2.get_text_features(tokens["input_ids"], tokens["attention_mask"]).pooler_output
        return torch.nn.functional.normalize(found, dim=-1)


def shared_owlv2(config: Owlv2Config) -> Owlv2:
    """The OWLv2 of `config`, loaded once for all tools that hold it.

    Raises:
        NamepinError: E210 to E218, see `namepin.tools.loading.pretrained`.
    """
    return shared_model(config, _load)


def fast_dtype(device: str) -> str:
    """bfloat16 for a processor with matrix units for it, and for a GPU; else float32."""
    has_units = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    return "bfloat16" if device != "cpu" or has_units() else "float32"


def _load(config: Owlv2Config, path: Path, sha256: str) -> Owlv2:
    from transformers import Owlv2ForObjectDetection

    if not path.is_dir():
        raise another_model("OWLv2's original files are not read", str(path), _MEND)
    dtype = getattr(torch, config.dtype if config.dtype != "auto" else fast_dtype(config.device))
    net = load_folder(Owlv2ForObjectDetection, path, kind="owlv2", mend=_MEND, dtype=dtype)
    # Thousands of places attend to each other: fused attention needs a fifth of the memory.
    net.set_attn_implementation("sdpa")
    tokenizer = load_tokenizer(str(path), net.config.text_config.vocab_size)
    return Owlv2(config, net, tokenizer, sha256, path)
