"""The extractor on this machine: Qwen2.5-VL or Qwen3-VL in transformers, with a LoRA adapter of our own or without."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image

from namepin.tools.base import fingerprint
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.extractor.answer import read_answer
from namepin.tools.extractor.config import LocalExtractorConfig
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.prompt import EXTRACTOR_DIGEST, REPAIR, SYSTEM, extract_question
from namepin.tools.extractor.result import extracted, long_post
from namepin.tools.extractor.shots import Shots
from namepin.tools.interfaces import Extracted, ExtractRequest
from namepin.tools.llm.box_frames import Frame, resize_for_model
from namepin.tools.loading.adapters import Base, load_adapter_onto
from namepin.tools.loading.pretrained import identity, locate, weights_sha256
from namepin.tools.media import Media, picture
from namepin.tools.models.qwen_vl import load_processor, load_qwen_vl

UNITS: Mapping[str, Frame] = {"qwen2_5_vl": "pixels", "qwen3_vl": "thousand"}
"""A model's kind -> the unit in which it writes boxes."""


class LocalExtractor:
    """Generates one answer per post, greedily (`Extractor`). Posts follow one another, so that none affects another.

    Raises:
        NamepinError: E210-E219, E301 for unusable weights, tokenizers, adapters and devices.
    """

    name: ClassVar[str] = "extractor_local"
    version: ClassVar[int] = 1

    def __init__(self, config: LocalExtractorConfig) -> None:
        self.config = config
        folder = locate(config.weights, config.revision)
        sha256 = weights_sha256(folder)
        self.net = load_qwen_vl(config, folder)
        self.processor = load_processor(folder, self.net.config.text_config.vocab_size)
        pictures: Any = self.processor.image_processor
        pictures.size = {"shortest_edge": config.min_pixels, "longest_edge": config.max_pixels}
        self.factor: int = pictures.patch_size * pictures.merge_size
        self.unit: Frame = config.frame or UNITS[self.net.config.model_type]
        if config.adapter is not None:
            sha256 += self._adapt(Path(config.adapter), sha256)
        vocabulary = self.processor.tokenizer.get_vocab()
        self._identity = identity(sha256, self.net, vocabulary, self.processor.chat_template, self.factor, self.unit)
        self._shots = Shots(config.shots, config.scheme)
        self._lock = threading.Lock()

    def _adapt(self, folder: Path, sha256: str) -> str:
        if not folder.is_dir():
            raise NamepinError("E210", "no adapter's folder here", where=str(folder), mend="check extractor.adapter")
        base = Base(weights=self.config.weights, revision=self.config.revision, sha256=sha256)
        return load_adapter_onto(self.net, folder, task="extract", base=base)

    @property
    def fingerprint(self) -> str:
        """Covers weights, adapter, precision, prompt and settings; not where the weights lie."""
        settings = self.config.model_dump(mode="json", exclude={"weights", "revision", "adapter", "device", "shots"})
        settings |= self._shots.settings
        return fingerprint(self.name, self.version, settings, weights=self._identity, prompt=EXTRACTOR_DIGEST)

    def run(self, requests: Sequence[ExtractRequest], media: Media) -> list[Extracted]:
        """Mentions and places of every post. An answer without a list is asked for again, once.

        Raises:
            NamepinError: E120 when `media` lacks the picture.
            ToolUnavailable: when both answers have no list.
        """
        return [self._extract(request, media) for request in requests]

    def _extract(self, request: ExtractRequest, media: Media) -> Extracted:
        config = self.config
        messages = [_message("system", [_text(SYSTEM)])]
        for shot in self._shots.before(request.text):
            question, frame = self._question(shot.text, shot.picture)
            messages += [question, _message("assistant", [_text(shot.answer(frame))])]
        question, frame = self._question(request.text, picture(request.image, media) if request.image else None)
        messages.append(question)
        reply = self._answer(messages)
        answer = read_answer(reply, config.scheme, config.max_entities)
        if answer is None:
            messages += [_message("assistant", [_text(reply[:200])]), _message("user", [_text(REPAIR)])]
            reply = self._answer(messages)
            answer = read_answer(reply, config.scheme, config.max_entities)
        if answer is None:
            raise ToolUnavailable("extractor", f"answered {reply[:60]!r}, no list of names", mend="set another model")
        result = extracted(request, answer, frame, "extractor")
        notices = (*long_post(request.text, config.max_post, "extractor"), *result.notices)
        return result.model_copy(update={"notices": notices})

    def _question(self, text: str, pixels: Image.Image | None) -> tuple[dict[str, Any], BoxFrame | None]:
        """The message about a post, and how the model counts in its picture."""
        config, frame, content = self.config, None, list[dict[str, Any]]()
        if pixels is not None:
            shown = resize_for_model(pixels, self.factor, config.min_pixels, config.max_pixels)
            frame = BoxFrame(self.unit, shown.size, pixels.size)
            content.append({"type": "image", "image": shown})
        asked = extract_question(text[: config.max_post], config.scheme, frame)
        return _message("user", [*content, _text(asked)]), frame

    def _answer(self, messages: Sequence[Mapping[str, Any]]) -> str:
        with self._lock, torch.inference_mode():
            processor: Any = self.processor  # transformers' own types know no tensors here
            inputs = processor.apply_chat_template(
                [list(messages)], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
            ).to(self.net.device)
            ids = self.net.generate(**inputs, max_new_tokens=self.config.max_tokens, do_sample=False)
        written = ids[:, inputs["input_ids"].shape[1] :]
        return str(processor.batch_decode(written, skip_special_tokens=True)[0])


def _message(role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"role": role, "content": content}


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
