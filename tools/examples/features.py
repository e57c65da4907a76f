"""Features of posts for finding similar ones (RiVEG section IV-B1b): one vector per post, from text and picture.

The paper takes them from a multimodal NER model (`umt`). Its weights are not published, so there are also two public
encoders: a sentence encoder, which reads only the text, and CLIP.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from namepin.tools.base import digest
from namepin.tools.examples.config import Kind
from namepin.tools.images.tensors import squash
from namepin.tools.loading.config import MINILM
from namepin.tools.loading.encoder import load_encoder
from namepin.tools.loading.pretrained import (
    identity,
    load_folder,
    load_tokenizer,
    locate,
    normalisation,
    weights_sha256,
)
from namepin.tools.models.match_texts import MatchTexts, without_special
from namepin.tools.models.umt_checkpoint import load_umt

CLIP = "openai/clip-vit-base-patch32"
MAX_PIECES = 128
"""Largest number of tokens of a text; a post has about 30. CLIP reads at most 77."""


class FusionEncoder(Protocol):
    """Turns posts into vectors."""

    sees: bool
    """Whether the encoder reads pictures."""

    identity: str
    """Digest of everything that determines the vectors."""

    def encode(self, texts: Sequence[str], pictures: Sequence[Image.Image | None]) -> Tensor:
        """One row per post: (B, D), float32, on the CPU. A post without a picture has None in its place."""
        ...


class SentenceFeatures:
    """The mean over a text's word pieces of a sentence encoder's last layer, as all-MiniLM was trained."""

    sees = False

    def __init__(self, weights: str, device: torch.device) -> None:
        encoder = load_encoder(weights)
        longest = min(MAX_PIECES, encoder.model.config.max_position_embeddings)
        self._net = encoder.model.eval().to(device)
        self._texts = MatchTexts(encoder.tokenizer, encoder.tokenizer.cls_token_id, longest, device)
        self.identity = digest(["sentence", encoder.sha256, MAX_PIECES])

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], pictures: Sequence[Image.Image | None]) -> Tensor:
        """The text's vector, of length one; the picture is not used."""
        words, _ = self._texts.plain(texts)
        states = self._net(input_ids=words.ids, attention_mask=words.mask).last_hidden_state
        mask = words.mask.unsqueeze(2)
        mean: Tensor = (states * mask).sum(1) / mask.sum(1)
        return F.normalize(mean, dim=1).float().cpu()


class ClipFeatures:
    """CLIP's vectors of text and picture, each of length one, side by side; zeros where there is no picture.

    The cosine of two posts with pictures is then the mean of the text cosine and the picture cosine. The whole picture
    is squashed to CLIP's square, since the subject of a post may be at the border.
    """

    sees = True

    def __init__(self, weights: str, device: torch.device, revision: str | None = None) -> None:
        from transformers import CLIPModel

        path = locate(weights, revision)
        self._net: Any = load_folder(CLIPModel, path, kind="clip", mend="give a CLIP folder").to(device)
        self._words = load_tokenizer(str(path), self._net.config.text_config.vocab_size)
        self._normal, self._device = normalisation(path), device
        self.identity = identity(weights_sha256(path), self._net, "clip", self._normal)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], pictures: Sequence[Image.Image | None]) -> Tensor:
        """(B, 2 x CLIP's shared width)."""
        longest = min(MAX_PIECES, self._net.config.text_config.max_position_embeddings)
        plain = [without_special(text, self._words) for text in texts]
        encoded = self._words(plain, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        batch = {name: encoded[name].to(self._device) for name in ("input_ids", "attention_mask")}
        words = F.normalize(self._net.text_projection(self._net.text_model(**batch).pooler_output), dim=1)
        seen = torch.zeros_like(words)
        at = [i for i, picture in enumerate(pictures) if picture is not None]
        if at:
            side = self._net.config.vision_config.image_size
            shown = [squash(picture, side, *self._normal) for picture in pictures if picture is not None]
            states = self._net.vision_model(pixel_values=torch.stack(shown).to(self._device)).pooler_output
            seen[at] = F.normalize(self._net.visual_projection(states), dim=1)
        return torch.cat((words, seen), 1).float().cpu()


class UmtFeatures:
    """The mean over a text's word pieces of UMT's multimodal hidden states (`namepin.tools.nets.umt`).

    The paper does not say how the states of a post's tokens become one vector. The mean over the words does not depend
    on the post's length, and [CLS] has no task in UMT. A post without a picture gets one of the mean colour.
    """

    sees = True

    def __init__(self, weights: str, device: torch.device) -> None:
        self._umt, self._device = load_umt(Path(weights)), device
        self._umt.net.to(device)
        self.identity = digest(["umt", self._umt.sha256, MAX_PIECES])

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], pictures: Sequence[Image.Image | None]) -> Tensor:
        """(B, 2 x UMT's hidden size)."""
        return self._umt.features(texts, pictures, MAX_PIECES, self._device).float().cpu()


def load_encoder_of(kind: Kind, weights: str | None, revision: str | None, device: torch.device) -> FusionEncoder:
    """Load the encoder that a profile names; with None, the default weights of its kind.

    Raises:
        NamepinError: E210-E214 and E218 where weights or tokenizer are missing, damaged or of another model.
    """
    if kind == "sentence":
        return SentenceFeatures(weights or MINILM, device)
    if kind == "clip":
        return ClipFeatures(weights or CLIP, device, revision)
    return UmtFeatures(weights or "umt", device)
