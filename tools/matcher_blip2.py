"""BLIP-2's image-text matching head as matcher, Grad-CAM on its visual encoder as tracer (GEM section 5.2, Table 3).

The Q-Former reads the encoder's features with its learned queries and the text together; each query votes, and the
votes are averaged. The paper weights the encoder's feature maps by P_T, so the target here is the probability.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from tools.feature_matching import FeatureCache, fingerprint_of, match_features, trace_features
from tools.gradcam import Target
from tools.interfaces import Matches, MatchRequest, Query, TraceRequest, Traces
from tools.match_texts import MatchTexts
from tools.matching import MATCH_PROMPT
from tools.media import Media
from tools.preprocess import squash
from tools.pretrained import device_named, identity, load_folder, load_tokenizer, normalisation, shared
from tools.types import Frozen, ImageRef, Notice


class Blip2Config(Frozen):
    """Which BLIP-2, and how it is run."""

    weights: str = "Salesforce/blip2-itm-vit-g"
    """A transformers folder, or a name on the hub."""

    revision: str | None = None
    max_text_tokens: Annotated[int, Field(ge=8)] = 32
    """With [CLS] and [SEP]; BLIP-2's own bound. A longer mention is cut, its category never."""

    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the visual encoder's weights; the Q-Former stays in float32."""

    text_batch: Annotated[int, Field(gt=0)] = 16
    cached_pictures: Annotated[int, Field(ge=0)] = 16


class Blip2:
    """A loaded BLIP-2 with its matching head."""

    prompt: ClassVar[str] = MATCH_PROMPT
    padded: ClassVar[bool] = False

    def __init__(self, config: Blip2Config, net: Any, tokenizer: Any, colours: Any, checkpoint: str) -> None:
        self._config, self._checkpoint, self._colours = config, checkpoint, colours
        self._device = device_named(config.device)
        self._net = net.eval().requires_grad_(False).to(self._device)
        self._texts = MatchTexts(tokenizer, int(tokenizer.cls_token_id), config.max_text_tokens, self._device)
        self._cache = FeatureCache(config.cached_pictures, checkpoint)

    @property
    def identity(self) -> Mapping[str, Any]:
        """See `FeatureModel`."""
        return {
            "checkpoint": self._checkpoint,
            "dtype": self._config.dtype,
            "max_text_tokens": self._config.max_text_tokens,
        }

    @property
    def batch(self) -> int:
        """See `FeatureModel`."""
        return self._config.text_batch

    def features(self, image: ImageRef, media: Media) -> Tensor:
        """The visual encoder's output, the class token first."""
        return self._cache.get(image, media, self._encode)

    def _encode(self, image: Any) -> Tensor:
        size = self._net.config.vision_config.image_size
        pixels = squash(image, size, *self._colours)[None].to(self._device, self._net.dtype)
        features: Tensor = self._net.vision_model(pixel_values=pixels).last_hidden_state
        return features

    def patches(self, features: Tensor) -> Tensor:
        """All but the class token."""
        return features[:, 1:]

    def scores(self, features: Tensor, queries: Sequence[Query]) -> Tensor:
        """The matching head's logits, averaged over the Q-Former's queries."""
        net, texts = self._net, self._texts(queries)
        asked = net.query_tokens.expand(len(queries), -1, -1)
        mask = torch.cat([torch.ones(asked.shape[:2], dtype=texts.mask.dtype, device=self._device), texts.mask], dim=1)
        states = net.qformer(
            query_embeds=net.embeddings(input_ids=texts.ids, query_embeds=asked),
            query_length=asked.shape[1],
            attention_mask=mask,
            encoder_hidden_states=features,
        ).last_hidden_state
        votes: Tensor = net.itm_head(states[:, : asked.shape[1]].to(net.itm_head.weight.dtype))
        return votes.mean(dim=1)

    def notices(self, queries: Sequence[Query], tool: str) -> tuple[Notice, ...]:
        """See `MatchTexts.notices`."""
        return self._texts.notices(queries, tool)


def _load(config: Blip2Config, path: Path, sha256: str) -> Blip2:
    from transformers import Blip2ForImageTextRetrieval

    mend = "take a BLIP-2 with its matching head, such as Salesforce/blip2-itm-vit-g"
    dtype = getattr(torch, config.dtype)
    net = load_folder(Blip2ForImageTextRetrieval, path, kind="blip-2", mend=mend, dtype=dtype)
    words = load_tokenizer(str(path), net.config.qformer_config.vocab_size)
    colours = normalisation(path)
    return Blip2(config, net, words, colours, identity(sha256, net, colours, words.get_vocab()))


class Blip2MatcherConfig(Frozen):
    """The matcher is its BLIP-2; a tracer of equal `blip2` shares the loaded weights."""

    blip2: Blip2Config = Blip2Config()


class Blip2Matcher:
    """One vision pass a picture; its mentions in batches."""

    name: ClassVar[str] = "matcher_blip2"
    version: ClassVar[int] = 1

    def __init__(self, config: Blip2MatcherConfig) -> None:
        self.config, self.model = config, shared(config.blip2, _load)

    @property
    def fingerprint(self) -> str:
        """See `fingerprint_of`."""
        return fingerprint_of(self.name, self.version, self.model)

    def run(self, requests: Sequence[MatchRequest], media: Media) -> list[Matches]:
        """P_T for every query of every request."""
        return match_features(self.model, self.name, requests, media)


class Blip2TracerConfig(Frozen):
    """How maps are made."""

    blip2: Blip2Config = Blip2Config()
    target: Target = "probability"


class Blip2Tracer:
    """Grad-CAM on the visual encoder's output, in batches."""

    name: ClassVar[str] = "tracer_blip2"
    version: ClassVar[int] = 1

    def __init__(self, config: Blip2TracerConfig) -> None:
        self.config, self.model = config, shared(config.blip2, _load)

    @property
    def fingerprint(self) -> str:
        """See `fingerprint_of`."""
        return fingerprint_of(self.name, self.version, self.model, target=self.config.target)

    def run(self, requests: Sequence[TraceRequest], media: Media) -> list[Traces]:
        """The peak of every query's map, and the map as a blob."""
        return trace_features(self.model, self.name, requests, media, self.config.target)
