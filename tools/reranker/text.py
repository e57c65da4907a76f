"""A text-only language model as reranker (GEM section 5.1): it gets the caption in place of the picture.

The query goes into the model's own chat template where its tokenizer has one. Otherwise the model continues the query.
"""

from typing import Any, ClassVar

import torch

from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import RerankRequest
from namepin.tools.loading.pretrained import identity, load_tokenizer, locate, read_json, weights_sha256
from namepin.tools.media import Media
from namepin.tools.reranker.config import TextRerankerConfig
from namepin.tools.reranker.likelihood import CausalScorer, Question, split_answers
from namepin.tools.reranker.local import LocalReranker, load_local


class TextModel:
    """A loaded causal language model, with its adapter (`LocalModel`)."""

    reads_images: ClassVar[bool] = False

    def __init__(self, net: Any, tokenizer: Any, checkpoint: str) -> None:
        self.tokenizer, self.net = tokenizer, net
        self._template = getattr(tokenizer, "chat_template", None)
        self.identity = identity(checkpoint, net, tokenizer.get_vocab(), self._template)

    @property
    def generator(self) -> Any:
        """The net."""
        return self.net

    def prompt(self, query: str) -> str:
        """The query in the model's chat template; the answer follows it."""
        if not self._template:
            return query
        asked = [{"role": "user", "content": query}]
        return str(self.tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))

    def question(self, query: str, request: RerankRequest, media: Media) -> Question:
        """See `LocalModel`. After a template's last token the answer begins without a blank."""
        blank = "" if self._template else " "
        ids, answers = split_answers(
            self.tokenizer, self.prompt(query), [blank + candidate for candidate in request.candidates],
            special=not self._template,
        )  # fmt: skip
        return Question(self.net.get_input_embeddings()(torch.tensor([ids], device=self.net.device)), answers)

    def read(self, question: Question, *, remember: bool = True) -> CausalScorer:
        """See `LocalModel`."""
        net, embeddings = self.net, self.net.get_input_embeddings()
        return CausalScorer(net.base_model, net.get_output_embeddings(), embeddings, question, remember=remember)


def load_text_model(config: TextRerankerConfig) -> TextModel:
    """Load the model of the settings: any decoder-only model that transformers supports.

    Raises:
        NamepinError: E210-E219, E301 for unusable weights, tokenizers, adapters and devices.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING as KNOWN

    path = locate(config.weights, config.revision)
    kind = str(read_json(path / "config.json").get("model_type"))
    mend = "take a decoder-only language model"
    try:
        loader = KNOWN[type(AutoConfig.for_model(kind))]
    except (KeyError, ValueError) as error:
        what = f"weights of another model: {kind!r} is not a causal language model"
        raise NamepinError("E212", what, where=config.weights, mend=mend) from error
    net, checkpoint = load_local(config, loader, path, weights_sha256(path), kind=kind, mend=mend)
    return TextModel(net, load_tokenizer(str(path), net.config.vocab_size), checkpoint)


class TextReranker(LocalReranker):
    """Chooses with a language model that reads captions (`Reranker`)."""

    def __init__(self, config: TextRerankerConfig, model: TextModel | None = None) -> None:
        """Use the given model, else load the one of `config`.

        Raises:
            NamepinError: see `load_text_model`.
        """
        super().__init__(config, model or load_text_model(config))
