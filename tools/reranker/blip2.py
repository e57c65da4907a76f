"""BLIP-2 as reranker (GEM section 5.1, Figure 4): its picture tokens, then the query of Table 7.

BLIP-2 with a decoder-only language model (OPT) and with an encoder-decoder (Flan-T5) are supported.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from namepin.tools.caching.lru import LruCache
from namepin.tools.interfaces import RerankRequest
from namepin.tools.loading.pretrained import identity, load_tokenizer, locate, normalisation, weights_sha256
from namepin.tools.media import Media, picture
from namepin.tools.models.blip2_lm import KIND, MEND, MeanStd, embedder, picture_tokens
from namepin.tools.reranker.config import Blip2RerankerConfig
from namepin.tools.reranker.likelihood import CausalScorer, Question, Seq2SeqScorer, split_answers
from namepin.tools.reranker.local import LocalReranker, Scorer, load_local, only_where_it_learns
from namepin.tools.types import ImageRef


class Blip2Model:
    """A loaded BLIP-2, with its adapter (`LocalModel`)."""

    reads_images: ClassVar[bool] = True

    def __init__(
        self, config: Blip2RerankerConfig, net: Any, tokenizer: Any, mean_std: MeanStd, checkpoint: str
    ) -> None:
        self.tokenizer, self.net, self._mean_std = tokenizer, net, mean_std
        self.identity = identity(checkpoint, net, mean_std, tokenizer.get_vocab())
        self._kept: LruCache[str, Tensor] = LruCache(config.cached_pictures)

    @property
    def generator(self) -> Any:
        """The language model."""
        return self.net.language_model

    def question(self, query: str, request: RerankRequest, media: Media) -> Question:
        """See `LocalModel`."""
        paired = not self.net.config.use_decoder_only_language_model
        ids, answers = split_answers(
            self.tokenizer, query, [" " + candidate for candidate in request.candidates], apart=paired
        )
        embedded = embedder(self.net)(torch.tensor([ids], device=self.net.query_tokens.device))
        if request.image is not None:
            embedded = torch.cat([self._encode(request.image, media).to(embedded.dtype), embedded], dim=1)
        return Question(embedded, answers)

    def _encode(self, image: ImageRef, media: Media) -> Tensor:
        found = self._kept.get(image.sha256)
        if found is None:
            with only_where_it_learns(self.net.language_projection):
                found = picture_tokens(self.net, [picture(image, media)], self._mean_std)
            self._kept.put(image.sha256, found)
        return found

    def read(self, question: Question, *, remember: bool = True) -> Scorer:
        """See `LocalModel`."""
        spoken = self.net.language_model
        if not self.net.config.use_decoder_only_language_model:
            return Seq2SeqScorer(spoken, question)
        head, embeddings = spoken.get_output_embeddings(), spoken.get_input_embeddings()
        return CausalScorer(spoken.base_model, head, embeddings, question, remember=remember)


def load_blip2_speech(config: Blip2RerankerConfig) -> Blip2Model:
    """Load the model of the settings.

    Raises:
        NamepinError: E210-E219, E301 for unusable weights, tokenizers, adapters and devices.
    """
    from transformers import Blip2ForConditionalGeneration

    path = locate(config.weights, config.revision)
    loader = Blip2ForConditionalGeneration
    net, checkpoint = load_local(config, loader, path, weights_sha256(path), kind=KIND, mend=MEND)
    tokenizer = load_tokenizer(str(path), net.config.text_config.vocab_size)
    return Blip2Model(config, net, tokenizer, normalisation(path), checkpoint)


class Blip2Reranker(LocalReranker):
    """Chooses with BLIP-2 (`Reranker`)."""

    def __init__(self, config: Blip2RerankerConfig, model: Blip2Model | None = None) -> None:
        """Use the given model, else load the one of `config`.

        Raises:
            NamepinError: see `load_blip2_speech`.
        """
        super().__init__(config, model or load_blip2_speech(config))
