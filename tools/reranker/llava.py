"""LLaVA as reranker: the paper's reranker (GEM section 3.3.2), tuned by LoRA of rank 64 on the prompt of Table 7.

The query is in LLaVA-1.5's own conversation format ("v1"), as in its training; the picture comes first. A picture is
encoded once for all its mentions, and each question is read once for all its candidates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from namepin.tools.caching.lru import LruCache
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import RerankRequest
from namepin.tools.loading.pretrained import identity, load_tokenizer, locate, normalisation, weights_sha256
from namepin.tools.media import Media, picture
from namepin.tools.models.llava import MeanStd, project_features, visual_features
from namepin.tools.reranker.config import LlavaRerankerConfig
from namepin.tools.reranker.likelihood import CausalScorer, Question, split_answers
from namepin.tools.reranker.local import LocalReranker, load_local, only_where_it_learns
from namepin.tools.types import ImageRef

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
    "and polite answers to the user's questions."
)
CONVERSATION = SYSTEM + " USER: {picture}{query} ASSISTANT:"
PICTURE = "<image>"


class LlavaModel:
    """A loaded LLaVA, with its adapter (`LocalModel`)."""

    reads_images: ClassVar[bool] = True

    def __init__(
        self, config: LlavaRerankerConfig, net: Any, tokenizer: Any, mean_std: MeanStd, checkpoint: str
    ) -> None:
        """Use the loaded parts.

        Raises:
            NamepinError: E218 when the tokenizer has no token for the picture.
        """
        self.tokenizer, self.net, self._mean_std = tokenizer, net, mean_std
        self.identity = identity(checkpoint, net, mean_std, tokenizer.get_vocab(), CONVERSATION)
        self._image_token = int(net.config.image_token_id)
        self._kept: LruCache[str, Tensor] = LruCache(config.cached_pictures)
        if list(tokenizer(PICTURE)["input_ids"]).count(self._image_token) != 1:
            raise NamepinError(
                "E218", f"the tokenizer has no token {PICTURE}", where=config.weights,
                mend="use the tokenizer that belongs to the weights",
            )  # fmt: skip

    @property
    def generator(self) -> Any:
        """The net."""
        return self.net

    def question(self, query: str, request: RerankRequest, media: Media) -> Question:
        """See `LocalModel`."""
        shown = PICTURE + "\n" if request.image is not None else ""
        prompt = CONVERSATION.format(picture=shown, query=query)
        ids, answers = split_answers(self.tokenizer, prompt, [" " + candidate for candidate in request.candidates])
        return Question(self._embed(ids, request.image, media), answers)

    def _embed(self, ids: Sequence[int], image: ImageRef | None, media: Media) -> Tensor:
        embeddings = self.net.get_input_embeddings()
        embedded: Tensor = embeddings(torch.tensor([ids], device=self.net.device))
        if image is None:
            return embedded
        at = list(ids).index(self._image_token)
        seen = self._encode(image, media).to(embedded.dtype)
        return torch.cat([embedded[:, :at], seen, embedded[:, at + 1 :]], dim=1)

    def _encode(self, image: ImageRef, media: Media) -> Tensor:
        found = self._kept.get(image.sha256)
        if found is None:
            with only_where_it_learns(self.net.model.multi_modal_projector):
                found = project_features(self.net, visual_features(self.net, picture(image, media), self._mean_std))
            self._kept.put(image.sha256, found)
        return found

    def read(self, question: Question, *, remember: bool = True) -> CausalScorer:
        """See `LocalModel`."""
        net, embeddings = self.net, self.net.get_input_embeddings()
        return CausalScorer(net.model.language_model, net.lm_head, embeddings, question, remember=remember)


def load_llava(config: LlavaRerankerConfig) -> LlavaModel:
    """Load the model of the settings.

    Raises:
        NamepinError: E210-E219, E301 for unusable weights, tokenizers, adapters and devices.
    """
    from transformers import LlavaForConditionalGeneration

    path = locate(config.weights, config.revision)
    mend = "take a LLaVA-1.5 in transformers' form, such as llava-hf/llava-1.5-7b-hf"
    loader = LlavaForConditionalGeneration
    net, checkpoint = load_local(config, loader, path, weights_sha256(path), kind="llava", mend=mend)
    tokenizer = load_tokenizer(str(path), net.config.text_config.vocab_size)
    return LlavaModel(config, net, tokenizer, normalisation(Path(path)), checkpoint)


class LlavaReranker(LocalReranker):
    """Chooses with LLaVA (`Reranker`)."""

    def __init__(self, config: LlavaRerankerConfig, model: LlavaModel | None = None) -> None:
        """Use the given model, else load the one of `config`.

        Raises:
            NamepinError: see `load_llava`.
        """
        super().__init__(config, model or load_llava(config))
