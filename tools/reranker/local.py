"""Shared by rerankers that run a language model on this machine: loading, and answering requests."""

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import Reranked, RerankRequest
from namepin.tools.loading.adapters import Base, load_adapter_onto
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.loading.placement import load_on_device
from namepin.tools.media import Media
from namepin.tools.models.match_texts import without_special
from namepin.tools.reranker.config import LocalRerankerConfig
from namepin.tools.reranker.likelihood import Question, generate_choice
from namepin.tools.reranker.prompt import (
    PROMPT_DIGEST,
    best,
    clean_request,
    cut_notice,
    fit_prompt,
    seen_by,
    without_asking,
)


def only_where_it_learns(vision_encoder: Any) -> Any:
    """Within this context, picture features have gradients only if the vision encoder is trained; others are cached."""
    learns = any(parameter.requires_grad for parameter in vision_encoder.parameters())
    return torch.set_grad_enabled(learns and torch.is_grad_enabled())


class Scorer(Protocol):
    """A question that the model has read; gives the likelihoods of its answers."""

    def log_likelihoods(self, answers: Sequence[Sequence[int]]) -> list[float]:
        """See `namepin.tools.reranker.likelihood.CausalScorer`."""
        ...

    def sums(self, answers: Sequence[Sequence[int]]) -> Tensor:
        """See `namepin.tools.reranker.likelihood.CausalScorer`."""
        ...


class LocalModel(Protocol):
    """A loaded model with its tokenizer."""

    reads_images: ClassVar[bool]
    net: Any
    """The net that gets the adapters."""

    tokenizer: Any
    identity: str
    """Sha256 over everything that determines its outputs, including the adapter."""

    def question(self, query: str, request: RerankRequest, media: Media) -> Question:
        """The query as the model's input, with the request's picture where the model reads pictures."""
        ...

    def read(self, question: Question, *, remember: bool = True) -> Scorer:
        """Run the model over the question; see `namepin.tools.reranker.likelihood.CausalScorer` for `remember`."""
        ...

    @property
    def generator(self) -> Any:
        """The net with the method `generate`."""
        ...


class LocalReranker:
    """Reranks with a local model. Subclasses define how it is loaded."""

    name: ClassVar[str] = "reranker"
    version: ClassVar[int] = 1

    def __init__(self, config: LocalRerankerConfig, model: LocalModel) -> None:
        self.config, self.model = config, model
        # The graph sends all hard mentions of a post at once; each holds K copies of its prompt's keys and values.
        self._turn = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Covers weights, adapter, prompt and decoder; not device and batch size, which change only the last bits."""
        decides = {"decoder", "length_normalised", "hint", "max_query_tokens", "dtype", "quantization"}
        settings = self.config.model_dump(mode="json", include=decides)
        return fingerprint(self.name, self.version, settings, weights=self.model.identity, prompt=PROMPT_DIGEST)

    def run(self, requests: Sequence[RerankRequest], media: Media) -> list[Reranked]:
        """One of each request's candidates, with all their probabilities where the decoder is `score`.

        Raises:
            NamepinError: E106 for an invalid request, E120 when `media` lacks the picture.
            ToolUnavailable: when not even a part of the mention fits into the prompt.
        """
        return [self._answer(request, media) for request in requests]

    def _answer(self, request: RerankRequest, media: Media) -> Reranked:
        clean = clean_request(request, lambda text: without_special(text, self.model.tokenizer))
        if (only := without_asking(clean)) is not None:
            return only
        sees = seen_by(clean, reads_images=self.model.reads_images)
        query = fit_prompt(clean, sees, hint=self.config.hint, length=self._length, limit=self.config.max_query_tokens)
        notices = (cut_notice(self.name, request),) if query.cut else ()
        with self._turn, torch.inference_mode():
            question = self.model.question(query.text, clean, media)
            if self.config.decoder == "generate":
                label = clean.candidates[generate_choice(self.model.generator, question)]
                return Reranked(label=label, notices=notices)
            reader, answers = self.model.read(question), question.answers
            parts, halved = in_batches(
                len(answers), self.config.batch, lambda part: reader.log_likelihoods(answers[part]), self.name
            )
        sums = [total for part in parts for total in part]
        if self.config.length_normalised:
            sums = [total / len(answer) for total, answer in zip(sums, answers, strict=True)]
        return best(clean.candidates, shares(sums), (*notices, *halved))

    def _length(self, query: str) -> int:
        return len(self.model.tokenizer(query, add_special_tokens=False)["input_ids"])


def shares(log_likelihoods: Sequence[float]) -> list[float]:
    """Each candidate's probability, given that one of them is the answer."""
    top = max(log_likelihoods)
    weights = [math.exp(value - top) for value in log_likelihoods]
    return [weight / sum(weights) for weight in weights]


def load_local(
    config: LocalRerankerConfig, loader: Any, path: Path, sha256: str, *, kind: str, mend: str
) -> tuple[Any, str]:
    """A net on its device with its adapter, and the sha256 of weights and adapter.

    Args:
        config: the settings of the model.
        loader: the transformers class.
        path: the located weights.
        sha256: sha256 of the weights.
        kind: the expected `model_type`.
        mend: the fix for E212: which checkpoint to use.

    Raises:
        NamepinError: as `namepin.tools.loading.pretrained.load_folder` and
            `namepin.tools.loading.adapters.load_adapter_onto`; E216 no such device,
            E301 quantised weights without bitsandbytes.
    """
    net = load_on_device(config, loader, path, kind=kind, mend=mend)
    if config.adapter is None:
        return net, sha256
    folder = Path(config.adapter)
    if not folder.is_dir():
        raise NamepinError("E210", "no adapter's folder here", where=config.adapter, mend="check reranker.adapter")
    base = Base(weights=config.weights, revision=config.revision, sha256=sha256)
    return net, sha256 + load_adapter_onto(net, folder, task="rerank", base=base)
