"""Features of whole posts, by which similar ones are found: one unit vector a post (RiVEG section IV-B1b).

The paper takes the fusion features of a vanilla MNER model (UMT). A sentence encoder needs no picture and no training,
CLIP sees both halves; whichever it is, a post without a picture has a feature, too.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from PIL import Image
from pydantic import Field

from tools.checkpoints import MINILM, load_encoder
from tools.nets.umt import Umt
from tools.preprocess import normalise
from tools.pretrained import locate
from tools.types import Frozen

Vectors = np.ndarray[Any, np.dtype[np.float32]]
"""(posts, width), each row of length 1."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class FeaturesConfig(Frozen):
    """Which encoder.

    Attributes:
        kind: `sentence` reads the text, `clip` text and picture, `umt` fuses them as the paper has it.
        weights: the encoder's folder or hub name; for `umt` a folder that `Umt.save` wrote. None: the kind's default.
        device: where it runs.
    """

    kind: Literal["sentence", "clip", "umt"] = "sentence"
    weights: str | None = None
    device: str = "cpu"
    batch_size: Annotated[int, Field(ge=1)] = 32


class Features(Protocol):
    """An encoder of posts."""

    @property
    def identity(self) -> str:
        """Sha256 of all that decides a feature."""
        ...

    def of(self, texts: Sequence[str], images: Sequence[Image.Image | None]) -> Vectors:
        """One unit vector a post."""
        ...


def load_features(config: FeaturesConfig) -> Features:
    """The encoder.

    Raises:
        NamepinError: E21x where its weights are not there or not its own.
    """
    if config.kind == "sentence":
        return SentenceFeatures(config)
    return ClipFeatures(config) if config.kind == "clip" else UmtFeatures(config)


def unit(vectors: torch.Tensor) -> Vectors:
    """Rows of length 1, as float32."""
    return np.asarray(torch.nn.functional.normalize(vectors.float(), dim=-1).cpu().numpy(), dtype=np.float32)


class SentenceFeatures:
    """The mean of a sentence encoder's last hidden states; the picture plays no part."""

    def __init__(self, config: FeaturesConfig) -> None:
        self.config = config
        encoder = load_encoder(config.weights or MINILM)
        self.model, self.tokenizer = encoder.model.eval().to(config.device), encoder.tokenizer
        self.identity = f"sentence:{encoder.sha256}"

    @torch.inference_mode()
    def of(self, texts: Sequence[str], images: Sequence[Image.Image | None]) -> Vectors:
        """See `Features.of`."""
        rows = [self._mean(texts[i : i + self.config.batch_size]) for i in range(0, len(texts), self.config.batch_size)]
        return unit(torch.cat(rows))

    def _mean(self, texts: Sequence[str]) -> torch.Tensor:
        batch = self.tokenizer(list(texts), padding=True, truncation=True, max_length=128, return_tensors="pt")
        batch = batch.to(self.config.device)
        mask = batch["attention_mask"][..., None]
        states: torch.Tensor = self.model(**batch).last_hidden_state
        return (states * mask).sum(1) / mask.sum(1)


class ClipFeatures:
    """CLIP's text and picture features side by side, each of length 1; a missing picture's half is zero."""

    def __init__(self, config: FeaturesConfig) -> None:
        from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

        self.config = config
        folder = locate(config.weights or "openai/clip-vit-base-patch32", None)
        self.model: Any = CLIPModel.from_pretrained(folder, use_safetensors=True, dtype="float32")
        self.model.eval().to(config.device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.processor = CLIPImageProcessorPil.from_pretrained(folder)
        self.identity = f"clip:{_folder_identity(folder)}"

    @torch.inference_mode()
    def of(self, texts: Sequence[str], images: Sequence[Image.Image | None]) -> Vectors:
        """See `Features.of`."""
        rows = []
        for text, image in zip(texts, images, strict=True):
            longest = self.model.config.text_config.max_position_embeddings
            ids = self.tokenizer(text, truncation=True, max_length=longest, return_tensors="pt").to(self.config.device)
            said = torch.nn.functional.normalize(_pooled(self.model.get_text_features(**ids)), dim=-1)
            seen = torch.zeros_like(said)
            if image is not None:
                pixels = self.processor(image, return_tensors="pt").to(self.config.device)
                seen = torch.nn.functional.normalize(_pooled(self.model.get_image_features(**pixels)), dim=-1)
            rows.append(torch.cat([said, seen], dim=-1))
        return unit(torch.cat(rows))


def _pooled(output: Any) -> torch.Tensor:
    pooled: torch.Tensor = output if isinstance(output, torch.Tensor) else output.pooler_output
    return pooled


class UmtFeatures:
    """The mean of UMT's fused word states (see `tools.nets.umt`)."""

    def __init__(self, config: FeaturesConfig) -> None:
        from tools.umt import load_umt

        self.config = config
        self.net, self.tokenizer, self.identity = load_umt(config.weights, config.device)

    @torch.inference_mode()
    def of(self, texts: Sequence[str], images: Sequence[Image.Image | None]) -> Vectors:
        """See `Features.of`."""
        net: Umt = self.net
        rows = []
        for text, image in zip(texts, images, strict=True):
            ids = self.tokenizer(text, truncation=True, max_length=128, return_tensors="pt").to(self.config.device)
            grid = None
            if image is not None:
                pixels = normalise(image.convert("RGB").resize((224, 224)), IMAGENET_MEAN, IMAGENET_STD)
                grid = net.grid(pixels[None].to(self.config.device))
            fused, _ = net.fuse(ids["input_ids"], ids["attention_mask"], grid)
            rows.append(fused.mean(1))
        return unit(torch.cat(rows))


def _folder_identity(folder: Any) -> str:
    from tools.base import file_sha256

    return "+".join(file_sha256(file) for file in sorted(folder.glob("*.safetensors")))
