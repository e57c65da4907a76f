"""LLaVA as matcher, by its answer to a yes-or-no question, and Grad-CAM on its visual encoder as tracer (section 5.2).

P_T is the probability of "Yes" against "No" as the answer's first token. The paper prints no question for this model:
the wording is ours, around the grounding text of its Table 8. The picture is padded to a square, as LLaVA-1.5 was
trained, whatever the folder's processor says.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tools.errors import NamepinError
from tools.feature_matching import FeatureCache, fingerprint_of, match_features, trace_features
from tools.gradcam import Target
from tools.interfaces import Matches, MatchRequest, Query, TraceRequest, Traces
from tools.llava import projected, visual_features
from tools.matching import MATCH_PROMPT, without_special
from tools.media import Media
from tools.pretrained import device_named, identity, load_folder, load_tokenizer, normalisation, shared
from tools.types import Frozen, ImageRef, Notice

QUESTION = f'USER: <image>\nIs this true of the image: "{MATCH_PROMPT}" Answer with yes or no. ASSISTANT:'
ANSWERS = (" No", " Yes")


class LlavaConfig(Frozen):
    """Which LLaVA, and how it is run."""

    weights: str = "llava-hf/llava-1.5-7b-hf"
    """A transformers folder, or a name on the hub; a tuned model with its adapter merged in."""

    revision: str | None = None
    max_characters: Annotated[int, Field(gt=0)] = 300
    """Of a mention; the rest is cut."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    text_batch: Annotated[int, Field(gt=0)] = 4
    cached_pictures: Annotated[int, Field(ge=0)] = 4


class Llava:
    """A loaded LLaVA, asked one question a mention."""

    prompt: ClassVar[str] = QUESTION
    padded: ClassVar[bool] = True

    def __init__(self, config: LlavaConfig, net: Any, tokenizer: Any, colours: Any, checkpoint: str) -> None:
        """Take a loaded net.

        Raises:
            NamepinError: E216 no such device; E218 when the tokenizer has no place for the picture, or cannot tell the
                two answers apart.
        """
        self._config, self._checkpoint, self._colours, self._words = config, checkpoint, colours, tokenizer
        self._device = device_named(config.device)
        self._answers = self._answer_ids(net.config.image_token_id)
        self._net = net.eval().requires_grad_(False).to(self._device)
        self._cache = FeatureCache(config.cached_pictures, checkpoint)

    def _answer_ids(self, image_token: int) -> list[int]:
        """The first tokens of No and Yes, as they follow the question."""
        question = self._words(QUESTION)["input_ids"]
        asked = [self._words(QUESTION + answer)["input_ids"] for answer in ANSWERS]
        ids = [row[len(question)] for row in asked if len(row) > len(question) and row[: len(question)] == question]
        if question.count(image_token) != 1 or len(set(ids)) != len(ANSWERS):
            raise NamepinError(
                "E218",
                "the tokenizer has no <image> token, or cannot tell Yes from No",
                where=self._config.weights,
                mend="use the tokenizer that belongs to the weights",
            )
        return ids

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `FeatureModel`."""
        settings = self._config.model_dump(include={"dtype", "max_characters"})
        return {**settings, "checkpoint": self._checkpoint}

    @property
    def batch(self) -> int:
        """See `FeatureModel`."""
        return self._config.text_batch

    def features(self, image: ImageRef, media: Media) -> Tensor:
        """The layers of the visual encoder that the projector reads, side by side."""
        return self._cache.get(image, media, self._encode)

    def _encode(self, image: Any) -> Tensor:
        return visual_features(self._net, image, self._colours)

    @property
    def _drops_class_token(self) -> bool:
        return bool(self._net.config.vision_feature_select_strategy == "default")

    def patches(self, features: Tensor) -> Tensor:
        """All but the class token, where the projector reads it."""
        return features if self._drops_class_token else features[:, 1:]

    def scores(self, features: Tensor, queries: Sequence[Query]) -> Tensor:
        """The logits of No and Yes, (rows, 2)."""
        model = self._net.model
        before, after = self._split([self._question(query) for query in queries])
        lengths = torch.tensor([len(row) for row in after], device=self._device)
        pad = int(lengths.max())
        # Padded on the right: the model looks to the left only, and the answer is read at each row's own end.
        rest = torch.tensor([row + row[-1:] * (pad - len(row)) for row in after], device=self._device)
        words = self._net.get_input_embeddings()
        head = words(torch.tensor(before, device=self._device)).expand(len(queries), -1, -1)
        seen = projected(self._net, features.to(self._net.dtype))
        states = model.language_model(
            inputs_embeds=torch.cat([head, seen, words(rest)], dim=1), use_cache=False
        ).last_hidden_state
        ends = head.shape[1] + seen.shape[1] + lengths - 1
        logits: Tensor = self._net.lm_head(states[torch.arange(len(queries), device=self._device), ends])
        return logits[:, self._answers]

    def _question(self, query: Query) -> str:
        entity = without_special(query.text[: self._config.max_characters], self._words)
        return QUESTION.format(entity=entity, category=query.category)

    def _split(self, questions: list[str]) -> tuple[list[int], list[list[int]]]:
        """Token ids before the picture, the same for all, and after it."""
        rows = [self._words(question)["input_ids"] for question in questions]
        at = rows[0].index(self._net.config.image_token_id)
        return rows[0][:at], [row[at + 1 :] for row in rows]

    def notices(self, queries: Sequence[Query], tool: str) -> tuple[Notice, ...]:
        """Mentions that were cut (W140)."""
        return tuple(
            Notice(code="W140", tool=tool, message=f"too long, its end is not read: {query.text!r}")
            for query in queries
            if len(query.text) > self._config.max_characters
        )


def _load(config: LlavaConfig, path: Path, sha256: str) -> Llava:
    from transformers import LlavaForConditionalGeneration

    mend = "take a LLaVA-1.5 in transformers' form, such as llava-hf/llava-1.5-7b-hf"
    dtype = getattr(torch, config.dtype)
    net = load_folder(LlavaForConditionalGeneration, path, kind="llava", mend=mend, dtype=dtype)
    words = load_tokenizer(str(path), net.config.text_config.vocab_size)
    colours = normalisation(path)
    return Llava(config, net, words, colours, identity(sha256, net, colours, words.get_vocab()))


class LlavaMatcherConfig(Frozen):
    """The matcher is its LLaVA; a tracer of equal `llava` shares the loaded weights."""

    llava: LlavaConfig = LlavaConfig()


class LlavaMatcher:
    """One vision pass a picture; its mentions in batches."""

    name: ClassVar[str] = "matcher_llava"
    version: ClassVar[int] = 1

    def __init__(self, config: LlavaMatcherConfig) -> None:
        self.config, self.model = config, shared(config.llava, _load)

    @property
    def fingerprint(self) -> str:
        """See `fingerprint_of`."""
        return fingerprint_of(self.name, self.version, self.model)

    def run(self, requests: Sequence[MatchRequest], media: Media) -> list[Matches]:
        """P_T for every query of every request."""
        return match_features(self.model, self.name, requests, media)


class LlavaTracerConfig(Frozen):
    """How maps are made."""

    llava: LlavaConfig = LlavaConfig()
    target: Target = "probability"


class LlavaTracer:
    """Grad-CAM on the features that the projector reads, in batches."""

    name: ClassVar[str] = "tracer_llava"
    version: ClassVar[int] = 1

    def __init__(self, config: LlavaTracerConfig) -> None:
        self.config, self.model = config, shared(config.llava, _load)

    @property
    def fingerprint(self) -> str:
        """See `fingerprint_of`."""
        return fingerprint_of(self.name, self.version, self.model, target=self.config.target)

    def run(self, requests: Sequence[TraceRequest], media: Media) -> list[Traces]:
        """The peak of every query's map, and the map as a blob."""
        return trace_features(self.model, self.name, requests, media, self.config.target)
