"""LLaVA as matcher, by its answer to a yes-or-no question, and Grad-CAM on its vision encoder as tracer (section 5.2).

P_T is the probability of "Yes" against "No" as the answer's first token. The paper prints no question for this model,
so the words around the grounding text of its Table 8 are ours. The picture is padded to a square, as in LLaVA-1.5's
training, whatever the folder's processor says.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import Query
from namepin.tools.loading.adapters import Base, load_adapter_onto
from namepin.tools.loading.pretrained import (
    device_named,
    identity,
    load_folder,
    load_tokenizer,
    normalisation,
    shared_model,
)
from namepin.tools.matcher.config import LlavaConfig, LlavaMatcherConfig, LlavaTracerConfig
from namepin.tools.matcher.feature_model import FeatureMatcher, FeatureModel, FeatureTracer
from namepin.tools.models.llava import MeanStd, project_features, visual_features
from namepin.tools.models.match_texts import MATCH_PROMPT, without_special
from namepin.tools.types import Notice

QUESTION = f'USER: <image>\nIs this true of the image: "{MATCH_PROMPT}" Answer with yes or no. ASSISTANT:'
ANSWERS = (" No", " Yes")


class Llava(FeatureModel):
    """A loaded LLaVA that gets one question per mention."""

    prompt: ClassVar[str] = QUESTION
    padded: ClassVar[bool] = True

    def __init__(self, config: LlavaConfig, net: Any, tokenizer: Any, mean_std: MeanStd, checkpoint: str) -> None:
        """Use a loaded net.

        Raises:
            NamepinError: E218 when the tokenizer has no token for the picture, or the same first token for both
                answers.
        """
        decides = {**config.model_dump(include={"dtype", "max_characters"}), "checkpoint": checkpoint}
        super().__init__(net, tokenizer, decides, batch=config.text_batch, cached=config.cached_pictures)
        self._config, self._mean_std = config, mean_std
        self._answers = self._answer_ids(net.config.image_token_id)

    def _answer_ids(self, image_token: int) -> list[int]:
        """The first tokens of No and Yes after the question."""
        question = self.tokenizer(QUESTION)["input_ids"]
        asked = [self.tokenizer(QUESTION + answer)["input_ids"] for answer in ANSWERS]
        ids = [row[len(question)] for row in asked if len(row) > len(question) and row[: len(question)] == question]
        if question.count(image_token) != 1 or len(set(ids)) != len(ANSWERS):
            raise NamepinError(
                "E218",
                "the tokenizer has no <image> token, or cannot tell Yes from No",
                where=self._config.weights,
                mend="use the tokenizer that belongs to the weights",
            )
        return ids

    def encode(self, image: Image.Image) -> Tensor:
        """The layers of the vision encoder that the projector reads, concatenated."""
        return visual_features(self.net, image, self._mean_std)

    @property
    def _drops_class_token(self) -> bool:
        return bool(self.net.config.vision_feature_select_strategy == "default")

    def patches(self, features: Tensor) -> Tensor:
        """All tokens except the class token, where the projector reads it."""
        return features if self._drops_class_token else features[:, 1:]

    def scores(self, features: Tensor, queries: Sequence[Query]) -> Tensor:
        """The logits of No and Yes, (rows, 2)."""
        net, device = self.net, features.device
        before, after = self._split([self._question(query) for query in queries])
        lengths = torch.tensor([len(row) for row in after], device=device)
        pad = int(lengths.max())
        # Padded on the right: the model attends only to the left, and the answer is read at each row's own end.
        rest = torch.tensor([row + row[-1:] * (pad - len(row)) for row in after], device=device)
        words = net.get_input_embeddings()
        head = words(torch.tensor(before, device=device)).expand(len(queries), -1, -1)
        seen = project_features(net, features.to(net.dtype))
        states = net.model.language_model(
            inputs_embeds=torch.cat([head, seen, words(rest)], dim=1), use_cache=False
        ).last_hidden_state
        ends = head.shape[1] + seen.shape[1] + lengths - 1
        logits: Tensor = net.lm_head(states[torch.arange(len(queries), device=device), ends])
        return logits[:, self._answers]

    def _question(self, query: Query) -> str:
        entity = without_special(query.text[: self._config.max_characters], self.tokenizer)
        return QUESTION.format(entity=entity, category=query.category)

    def _split(self, questions: list[str]) -> tuple[list[int], list[list[int]]]:
        """Token ids before the picture, the same for all, and after it."""
        rows = [self.tokenizer(question)["input_ids"] for question in questions]
        at = rows[0].index(self.net.config.image_token_id)
        return rows[0][:at], [row[at + 1 :] for row in rows]

    def notices(self, queries: Sequence[Query], tool: str) -> tuple[Notice, ...]:
        """Mentions that were cut (W140)."""
        return tuple(
            Notice(code="W140", tool=tool, message=f"too long, its end is not read: {query.text!r}")
            for query in queries
            if len(query.text) > self._config.max_characters
        )


def load_llava_matcher(config: LlavaConfig, path: Path, sha256: str) -> Llava:
    """Load the model of the settings, with its adapter, from located weights and their sha256.

    Raises:
        NamepinError: E210 to E218, see `namepin.tools.loading.pretrained`; E219 an adapter of other weights or another
            task.
        ModuleNotFoundError: an adapter without the package peft.
    """
    from transformers import LlavaForConditionalGeneration

    mend = "take a LLaVA-1.5 in transformers' form, such as llava-hf/llava-1.5-7b-hf"
    dtype = getattr(torch, config.dtype)
    net = load_folder(LlavaForConditionalGeneration, path, kind="llava", mend=mend, dtype=dtype)
    net = net.to(device_named(config.device))
    tokenizer = load_tokenizer(str(path), net.config.text_config.vocab_size)
    mean_std = normalisation(path)
    if config.adapter is not None:
        base = Base(weights=config.weights, revision=config.revision, sha256=sha256)
        sha256 += load_adapter_onto(net, Path(config.adapter), task="match", base=base)
    return Llava(config, net, tokenizer, mean_std, identity(sha256, net, mean_std, tokenizer.get_vocab()))


class LlavaMatcher(FeatureMatcher):
    """Matches with LLaVA (`Matcher`)."""

    name: ClassVar[str] = "matcher_llava"

    def __init__(self, config: LlavaMatcherConfig) -> None:
        super().__init__(shared_model(config.llava, load_llava_matcher))
        self.config = config


class LlavaTracer(FeatureTracer):
    """Traces with LLaVA (`Tracer`)."""

    name: ClassVar[str] = "tracer_llava"

    def __init__(self, config: LlavaTracerConfig) -> None:
        super().__init__(shared_model(config.llava, load_llava_matcher), config.target)
        self.config = config
