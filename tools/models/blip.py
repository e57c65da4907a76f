"""One loaded BLIP with its image-text matching head (ITM), shared by the matcher and the tracer.

A picture is encoded once and its embedding is cached, so that tracing does not repeat the matcher's work. All mentions
of a picture are one batch of texts with that embedding, whose keys and values are computed once and broadcast.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from namepin.tools.caching.lru import LruCache
from namepin.tools.errors import NamepinError
from namepin.tools.images.tensors import squash
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.loading.pretrained import device_named, shared_model
from namepin.tools.media import Media, picture
from namepin.tools.models.blip_checkpoint import BlipCheckpoint, load_blip
from namepin.tools.models.config import BlipConfig, Target
from namepin.tools.models.gradcam import score_to_trace
from namepin.tools.models.match_texts import MatchTexts, Texts
from namepin.tools.types import ImageRef


@dataclass
class _Tap:
    """A tap in one thread's forward pass: the text layer, and its cross-attention after the pass."""

    block: int
    attention: Tensor | None = None


class Blip:
    """A loaded BLIP, safe for several threads."""

    def __init__(self, config: BlipConfig, checkpoint: BlipCheckpoint) -> None:
        self.config, self._checkpoint = config, checkpoint
        self.device = device_named(config.device)
        self._net = checkpoint.net.eval().requires_grad_(False).to(self.device)
        self._words = checkpoint.tokenizer
        self.texts = match_texts(config, self._net, self._words, self.device)
        self._pictures: LruCache[tuple[str, str], Tensor] = LruCache(config.cached_pictures)
        self._taps = threading.local()
        for index, layer in enumerate(self._net.text_encoder.encoder.layer):
            layer.crossattention.self.dropout.register_forward_pre_hook(_tapping(self._taps, index))

    @property
    def identity(self) -> Mapping[str, Any]:
        """Everything that determines its outputs, for fingerprints: the weights and some of the settings."""
        settings = self.config.model_dump(include={"first_token", "max_text_tokens"})
        return {**settings, "checkpoint": self._checkpoint.identity}

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        vision = self._net.config.vision_config
        side = vision.image_size // vision.patch_size
        return side, side

    @property
    def blocks(self) -> int:
        """Number of layers of the text encoder."""
        return len(self._net.text_encoder.encoder.layer)

    def embeddings(self, images: Sequence[ImageRef], media: Media) -> dict[str, Tensor]:
        """Each picture's embedding by its sha256: (1, 1 + patches, width), the class token first.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small.
        """
        wanted = {image.sha256: image for image in images}
        found = {sha: cached for sha in wanted if (cached := self._pictures.get(self._key(sha))) is not None}
        missing = [image for sha, image in wanted.items() if sha not in found]

        def encode(part: slice) -> Tensor:
            return self._encode(missing[part], media)

        parts, _ = in_batches(len(missing), self.config.image_batch, encode, "blip")
        for image, embedding in zip(missing, (row for part in parts for row in part), strict=True):
            found[image.sha256] = embedding[None].clone()  # a view would keep the whole batch in memory
            self._pictures.put(self._key(image.sha256), found[image.sha256])
        return found

    def _key(self, sha256: str) -> tuple[str, str]:
        return sha256, self._checkpoint.identity

    def _encode(self, images: Sequence[ImageRef], media: Media) -> Tensor:
        size = self._net.config.vision_config.image_size
        squares = [squash(picture(image, media), size, self._checkpoint.mean, self._checkpoint.std) for image in images]
        # no_grad rather than inference_mode: the tracer differentiates through the output.
        with torch.inference_mode(False), torch.no_grad():
            embedded: Tensor = self._net.vision_model(torch.stack(squares).to(self.device)).last_hidden_state
        return embedded

    def logits(self, embedding: Tensor, texts: Texts) -> Tensor:
        """ITM logits, (rows, 2): no match, match. `embedding` is one picture's, shared by all rows."""
        with torch.inference_mode(False), torch.no_grad():
            return self._score(embedding, texts)

    def _score(self, embedding: Tensor, texts: Texts) -> Tensor:
        # One row of image states broadcasts against many text rows, so keys and values are computed once. All patches
        # are attended to, so they need no mask.
        states = self._net.text_encoder(
            input_ids=texts.ids, attention_mask=texts.mask, encoder_hidden_states=embedding
        ).last_hidden_state
        scores: Tensor = self._net.itm_head(states[:, 0])
        return scores

    def cross_attention(
        self, embedding: Tensor, texts: Texts, block: int, target: Target
    ) -> tuple[Tensor, Tensor, Tensor]:
        """A text layer's cross-attention, its gradient, and the ITM logits: one forward, one backward pass.

        Only the layers above the tapped probabilities are differentiated, not the vision encoder and not the weights.

        Args:
            embedding: one picture's, shared by all rows.
            texts: a batch.
            block: the text layer, 0-based.
            target: what is differentiated; see `namepin.tools.models.gradcam`.

        Returns:
            Probabilities after softmax and before dropout, (rows, heads, tokens, 1 + patches); their gradient; logits.
        """
        tap = _Tap(block)
        self._taps.now = tap
        try:
            with torch.inference_mode(False), torch.enable_grad():
                logits = self._score(embedding, texts)
                assert tap.attention is not None
                (gradient,) = torch.autograd.grad(score_to_trace(logits, target), tap.attention)
        finally:
            self._taps.now = None
        return tap.attention.detach(), gradient, logits.detach()


def match_texts(config: BlipConfig, net: Any, tokenizer: Any, device: torch.device) -> MatchTexts:
    """The builder of texts for a BLIP.

    The id of [ENC] comes from the tokenizer if it has that token, else it is the last row of BLIP's word embeddings
    (30523).

    Raises:
        NamepinError: E218 when the vocabulary has no place for [ENC].
    """
    last = int(net.config.text_config.vocab_size) - 1
    known = tokenizer.cls_token_id if config.first_token == "cls" else tokenizer.get_vocab().get("[ENC]")
    if known is None and last < len(tokenizer):
        raise NamepinError(
            "E218",
            "neither the tokenizer nor the text encoder has a place for [ENC]",
            where=config.weights,
            mend="use BLIP's weights, whose vocabulary ends with [DEC] and [ENC], or set first_token to cls",
        )
    return MatchTexts(tokenizer, last if known is None else int(known), config.max_text_tokens, device)


def _tapping(taps: threading.local, block: int) -> Any:
    """A hook on the dropout after a layer's softmax. It does nothing unless this thread taps this layer.

    It refers to the taps, not to the `Blip`, so that no reference cycle keeps unused weights in memory.
    """

    def tap(module: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        now: _Tap | None = getattr(taps, "now", None)
        if now is None or now.block != block:
            return None
        now.attention = inputs[0].detach().requires_grad_()
        return (now.attention, *inputs[1:])

    return tap


def shared_blip(config: BlipConfig) -> Blip:
    """The BLIP of `config`, loaded once for all tools that hold it.

    Raises:
        NamepinError: E210 to E218, see `namepin.tools.loading.pretrained`.
    """
    return shared_model(config, _load)


def _load(config: BlipConfig, path: Path, sha256: str) -> Blip:
    checkpoint = load_blip(path, sha256, tokenizer=config.tokenizer, vision_norm_eps=config.vision_norm_eps)
    return Blip(config, checkpoint)
