"""BLIP-2's image-text matching head as matcher, Grad-CAM on its vision encoder as tracer (GEM section 5.2, Table 3).

The Q-Former attends to the encoder's features with its learned queries and the text. The match logits are averaged over
the queries. The paper weights the encoder's feature maps by P_T, so the target here is the probability.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from namepin.tools.images.tensors import squash
from namepin.tools.interfaces import Query
from namepin.tools.loading.pretrained import (
    device_named,
    identity,
    load_folder,
    load_tokenizer,
    normalisation,
    shared_model,
)
from namepin.tools.matcher.config import Blip2Config, Blip2MatcherConfig, Blip2TracerConfig
from namepin.tools.matcher.feature_model import FeatureMatcher, FeatureModel, FeatureTracer
from namepin.tools.models.match_texts import MATCH_PROMPT, MatchTexts
from namepin.tools.types import Notice


class Blip2(FeatureModel):
    """A loaded BLIP-2 with its matching head."""

    prompt: ClassVar[str] = MATCH_PROMPT
    padded: ClassVar[bool] = False

    def __init__(self, config: Blip2Config, net: Any, tokenizer: Any, mean_std: Any, checkpoint: str) -> None:
        decides = {**config.model_dump(include={"dtype", "max_text_tokens"}), "checkpoint": checkpoint}
        super().__init__(net, tokenizer, decides, batch=config.text_batch, cached=config.cached_pictures)
        self.mean_std = mean_std
        # On the CPU: a recipe moves the net only later.
        self._texts = MatchTexts(tokenizer, int(tokenizer.cls_token_id), config.max_text_tokens, torch.device("cpu"))

    def encode(self, image: Image.Image) -> Tensor:
        """The vision encoder's output, the class token first."""
        net = self.net
        pixels = squash(image, net.config.vision_config.image_size, *self.mean_std)[None]
        features: Tensor = net.vision_model(
            pixel_values=pixels.to(net.device, net.vision_model.dtype)
        ).last_hidden_state
        return features

    def patches(self, features: Tensor) -> Tensor:
        """All tokens except the class token."""
        return features[:, 1:]

    def scores(self, features: Tensor, queries: Sequence[Query]) -> Tensor:
        """The matching head's logits, averaged over the Q-Former's queries."""
        net, texts = self.net, self._texts(queries)
        ids, mask = texts.ids.to(features.device), texts.mask.to(features.device)
        asked = net.query_tokens.expand(len(queries), -1, -1)
        states = net.qformer(
            query_embeds=net.embeddings(input_ids=ids, query_embeds=asked),
            query_length=asked.shape[1],
            attention_mask=torch.cat([mask.new_ones(asked.shape[:2]), mask], dim=1),
            encoder_hidden_states=features,
        ).last_hidden_state
        votes: Tensor = net.itm_head(states[:, : asked.shape[1]].to(net.itm_head.weight.dtype))
        return votes.mean(dim=1)

    def notices(self, queries: Sequence[Query], tool: str) -> tuple[Notice, ...]:
        """See `MatchTexts.notices`."""
        return self._texts.notices(queries, tool)


def load_blip2_matcher(config: Blip2Config, path: Path, sha256: str) -> Blip2:
    """Load the model of the settings from located weights and their sha256.

    Raises:
        NamepinError: E210 to E218, see `namepin.tools.loading.pretrained`.
    """
    from transformers import Blip2ForImageTextRetrieval

    mend = "take a BLIP-2 with its matching head, such as Salesforce/blip2-itm-vit-g"
    dtype = getattr(torch, config.dtype)
    net = load_folder(Blip2ForImageTextRetrieval, path, kind="blip-2", mend=mend, dtype=dtype)
    tokenizer = load_tokenizer(str(path), net.config.qformer_config.vocab_size)
    mean_std = normalisation(path)
    checkpoint = identity(sha256, net, mean_std, tokenizer.get_vocab())
    return Blip2(config, net.to(device_named(config.device)), tokenizer, mean_std, checkpoint)


class Blip2Matcher(FeatureMatcher):
    """Matches with BLIP-2 (`Matcher`)."""

    name: ClassVar[str] = "matcher_blip2"

    def __init__(self, config: Blip2MatcherConfig) -> None:
        super().__init__(shared_model(config.blip2, load_blip2_matcher))
        self.config = config


class Blip2Tracer(FeatureTracer):
    """Traces with BLIP-2 (`Tracer`)."""

    name: ClassVar[str] = "tracer_blip2"

    def __init__(self, config: Blip2TracerConfig) -> None:
        super().__init__(shared_model(config.blip2, load_blip2_matcher), config.target)
        self.config = config
