"""Captions by BLIP-2, as in the papers (GEM section 3.2.1): the language model continues from the picture."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from namepin.tools.base import fingerprint
from namepin.tools.captioner.config import Blip2CaptionerConfig
from namepin.tools.errors import ToolUnavailable
from namepin.tools.interfaces import Caption, CaptionRequest
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.loading.placement import load_on_device
from namepin.tools.loading.pretrained import identity, load_tokenizer, locate, normalisation, weights_sha256
from namepin.tools.media import Media, picture
from namepin.tools.models.blip2_lm import KIND, MEND, embedder, picture_tokens


class Blip2Captioner:
    """Describes pictures (`Captioner`).

    Raises:
        NamepinError: E210-E218, E301 for unusable weights, tokenizers and devices.
    """

    name: ClassVar[str] = "captioner"
    version: ClassVar[int] = 1

    def __init__(self, config: Blip2CaptionerConfig) -> None:
        from transformers import Blip2ForConditionalGeneration

        self.config = config
        path = locate(config.weights, config.revision)
        self._net: Any = load_on_device(config, Blip2ForConditionalGeneration, path, kind=KIND, mend=MEND)
        self._words = load_tokenizer(str(path), self._net.config.text_config.vocab_size)
        self._mean_std = normalisation(path)
        self._identity = identity(weights_sha256(path), self._net, self._mean_std, self._words.get_vocab())

    @property
    def fingerprint(self) -> str:
        """Covers weights, prompt and decoding; not device and batch size, which change only the last bits."""
        settings = self.config.model_dump(
            mode="json", include={"dtype", "quantization", "prompt", "max_tokens", "beams"}
        )
        return fingerprint(self.name, self.version, settings, weights=self._identity)

    def run(self, requests: Sequence[CaptionRequest], media: Media) -> list[Caption]:
        """Describe every picture; equal pictures are described once.

        Raises:
            NamepinError: E120 when `media` lacks a picture.
            ToolUnavailable: the device's memory is too small, or the model gives an empty caption.
        """
        images = {request.image.sha256: picture(request.image, media) for request in requests}
        pictures = list(images.values())
        parts, notices = in_batches(
            len(pictures), self.config.batch, lambda part: self._describe(pictures[part]), self.name
        )
        texts = dict(zip(images, (text for part in parts for text in part), strict=True))
        return [Caption(text=texts[request.image.sha256], notices=notices) for request in requests]

    @torch.inference_mode()
    def _describe(self, images: list[Any]) -> list[str]:
        import transformers

        seen = picture_tokens(self._net, images, self._mean_std)
        ids = torch.tensor([self._words(self.config.prompt)["input_ids"]] * len(images), dtype=torch.long)
        asked = embedder(self._net)(ids.to(seen.device)).to(seen.dtype)
        embedded = torch.cat([seen, asked], dim=1)
        spoken = self._net.language_model
        make_settings: Any = transformers.GenerationConfig
        settings = make_settings(
            do_sample=False,
            num_beams=self.config.beams,
            max_new_tokens=self.config.max_tokens,
            min_new_tokens=1,
            eos_token_id=self._ends(),
            pad_token_id=self._words.pad_token_id,
            decoder_start_token_id=getattr(spoken.config, "decoder_start_token_id", None),
        )
        mask = torch.ones(embedded.shape[:2], dtype=torch.long, device=embedded.device)
        rows = spoken.generate(inputs_embeds=embedded, attention_mask=mask, generation_config=settings)
        decoded = self._words.batch_decode(rows, skip_special_tokens=True)
        texts = [" ".join(text.split()) for text in decoded]
        if not all(texts):
            raise ToolUnavailable(
                self.name, "the model described a picture by nothing at all", mend="try another model"
            )
        return texts

    def _ends(self) -> list[int]:
        """The end token; with OPT also the line feed, which OPT writes after a caption."""
        line_end = self._words("\n", add_special_tokens=False)["input_ids"]
        ends = {int(self._words.eos_token_id)}
        if self._net.config.use_decoder_only_language_model and len(line_end) == 1:
            ends.add(int(line_end[0]))
        return sorted(ends)
