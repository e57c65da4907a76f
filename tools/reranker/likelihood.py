"""Chooses one of a few answers with a language model: by their likelihood, or by generating one of them.

All answers have the same question, so the model reads it once. The answers share its keys and values, and are read in
one batch. An answer's score is the sum of its tokens' log-probabilities, including the end token's. So an answer does
not win by being the beginning of another.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from namepin.tools.errors import NamepinError


@dataclass(frozen=True)
class Question:
    """A question as the model's input, and its possible answers.

    Attributes:
        embedded: (1, tokens, width): the prompt's embeddings, the picture's among them.
        answers: token ids of each answer, the end token last.
    """

    embedded: Tensor
    answers: tuple[tuple[int, ...], ...]


def split_answers(
    tokenizer: Any, prompt: str, answers: Sequence[str], *, special: bool = True, apart: bool = False
) -> tuple[list[int], tuple[tuple[int, ...], ...]]:
    """Token ids of the prompt, and of each answer after the prompt.

    A tokenizer may join the prompt's last letters with an answer's first, so prompt and answer are tokenised together.
    The prompt's tokens are the ones that all of them share, up to the end of the prompt.

    Args:
        tokenizer: the model's tokenizer.
        prompt: the question.
        answers: the answers, with the leading blank where they have one.
        special: let the tokenizer add its own tokens before the prompt; False after a chat template, which adds them.
        apart: for an encoder-decoder model, which encodes the prompt and decodes the answer separately.

    Raises:
        NamepinError: E218 when the tokenizer has no end token, or gives two answers the same tokens.
    """
    end = tokenizer.eos_token_id

    def ids(text: str) -> list[int]:
        row = list(tokenizer(text, add_special_tokens=special)["input_ids"])
        # Some tokenizers append an end token; here the answer must continue the prompt.
        return row[:-1] if not apart and len(row) > 1 and row[-1] == end else row

    question = ids(prompt)
    if apart:
        tails = tuple((*tokenizer(answer.strip(), add_special_tokens=False)["input_ids"], end) for answer in answers)
    else:
        rows = [[*ids(prompt + answer), end] for answer in answers]
        shared = 0
        while shared < len(question) and all(row[shared : shared + 1] == [question[shared]] for row in rows):
            shared += 1
        question, tails = question[:shared], tuple(tuple(row[shared:]) for row in rows)
    if end is None or not question or len(set(tails)) < len(tails) or min(map(len, tails)) < 2:
        raise NamepinError(
            "E218", "the tokenizer has no end token, or cannot tell the candidates apart", where=", ".join(answers),
            mend="use the tokenizer that belongs to the weights",
        )  # fmt: skip
    return question, tails


def cache_name(net: Any) -> str:
    """The name of a transformers model's keys and values, as an argument and in its output.

    Since transformers 5.24 the name is `cache`. Before, and in models of other packages, it is `past_key_values`.
    """
    return "cache" if "cache" in inspect.signature(net.forward).parameters else "past_key_values"


class CausalScorer:
    """A decoder-only language model that has read a question and gives the likelihoods of its answers.

    Args:
        decoder: gives hidden states of embeddings (`LlamaModel`, `OPTModel`, ...).
        head: maps hidden states to the vocabulary's logits.
        words: the embeddings of token ids.
        question: the question, which is read at once.
        remember: keep the keys and values. Without it, every answer is read with the question again. The numbers are
            the same, and the pass can be recomputed to save memory.
    """

    def __init__(self, decoder: Any, head: Any, embeddings: Any, question: Question, *, remember: bool = True) -> None:
        self._decoder, self._head, self._words = decoder, head, embeddings
        self._again = None if remember else question.embedded
        if not remember:
            return
        self._cache = cache_name(decoder)
        output = decoder(inputs_embeds=question.embedded, use_cache=True)
        self._first = head(output.last_hidden_state[:, -1])
        self._kept = [(layer.keys, layer.values) for layer in getattr(output, self._cache).layers]

    def log_likelihoods(self, answers: Sequence[Sequence[int]]) -> list[float]:
        """The summed log-probability of each answer's tokens, in one batch."""
        return list(self.sums(answers).tolist())

    def sums(self, answers: Sequence[Sequence[int]]) -> Tensor:
        """The same as a tensor, (answers,), float64, which gradients flow through."""
        if self._again is not None:
            return self._whole_sums(answers, self._again)
        ids, mask = _pad(answers, self._first.device)
        logits = self._first.expand(len(answers), -1).unsqueeze(1)
        if ids.shape[1] > 1:
            # An answer's last token is predicted, but is never an input.
            cache = {self._cache: self._copies(len(answers))}
            states = self._decoder(inputs_embeds=self._words(ids[:, :-1]), use_cache=True, **cache).last_hidden_state
            logits = torch.cat([logits, self._head(states)], dim=1)
        return _sum_answers(logits, ids, mask)

    def _whole_sums(self, answers: Sequence[Sequence[int]], question: Tensor) -> Tensor:
        ids, mask = _pad(answers, question.device)
        embedded = torch.cat([question.expand(len(answers), -1, -1), self._words(ids[:, :-1])], dim=1)
        states = self._decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state
        return _sum_answers(self._head(states[:, question.shape[1] - 1 :]), ids, mask)

    def _copies(self, rows: int) -> Any:
        """The question's keys and values for each row of a batch. Rows are padded on the right."""
        from transformers import DynamicCache

        return DynamicCache(
            (keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in self._kept
        )


class Seq2SeqScorer:
    """As `CausalScorer`, for an encoder-decoder model (T5): the question is encoded once.

    Args:
        net: a transformers seq2seq model.
        question: the question, which is encoded at once.
    """

    def __init__(self, net: Any, question: Question) -> None:
        self._net = net
        self._states = net.get_encoder()(inputs_embeds=question.embedded).last_hidden_state

    def log_likelihoods(self, answers: Sequence[Sequence[int]]) -> list[float]:
        """The summed log-probability of each answer's tokens, in one batch."""
        return list(self.sums(answers).tolist())

    def sums(self, answers: Sequence[Sequence[int]]) -> Tensor:
        """The same as a tensor, (answers,), float64, which gradients flow through."""
        from transformers.modeling_outputs import BaseModelOutput

        ids, mask = _pad(answers, self._states.device)
        start = torch.full_like(ids[:, :1], self._net.config.decoder_start_token_id)
        logits = self._net(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._states.expand(len(answers), -1, -1)),
            decoder_input_ids=torch.cat([start, ids[:, :-1]], dim=1),
            use_cache=False,
        ).logits
        return _sum_answers(logits, ids, mask)


def _pad(answers: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and mask, (rows, longest); padding repeats the last token, and does not count."""
    longest = max(map(len, answers))
    ids = torch.tensor([[*row, *([row[-1]] * (longest - len(row)))] for row in answers], device=device)
    mask = torch.tensor([[1.0] * len(row) + [0.0] * (longest - len(row)) for row in answers], device=device).double()
    return ids, mask


def _sum_answers(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """The answers' log-probabilities, (answers,), float64, of logits (answers, tokens, vocabulary)."""
    chosen = logits.float().log_softmax(-1).gather(2, ids.unsqueeze(2)).squeeze(2)
    total: Tensor = (chosen.double() * mask).sum(1)
    return total


def generate_choice(net: Any, question: Question) -> int:
    """The answer that the model generates greedily when it is limited to the answers.

    Args:
        net: a transformers model that generates.
        question: the question and its answers.

    Returns:
        The answer's index.
    """
    import transformers

    ends = {row[-1] for row in question.answers}
    make_settings: Any = transformers.GenerationConfig
    settings = make_settings(
        do_sample=False,
        num_beams=1,
        max_new_tokens=max(map(len, question.answers)),
        eos_token_id=sorted(ends),
        pad_token_id=min(ends),
        bos_token_id=None,
        decoder_start_token_id=getattr(net.config, "decoder_start_token_id", None),
    )
    started = 1 if getattr(net.config, "is_encoder_decoder", False) else 0
    allowed = continuations(question.answers)
    rows = net.generate(
        inputs_embeds=question.embedded,
        attention_mask=torch.ones(question.embedded.shape[:2], dtype=torch.long, device=question.embedded.device),
        generation_config=settings,
        prefix_allowed_tokens_fn=lambda row, ids: allowed(tuple(ids[started:].tolist())),
    )
    found = tuple(rows[0, started:].tolist())
    return next(i for i, answer in enumerate(question.answers) if found[: len(answer)] == answer)


def continuations(answers: Sequence[tuple[int, ...]]) -> Callable[[tuple[int, ...]], list[int]]:
    """The trie of the answers: tokens so far -> tokens that may follow."""
    after: dict[tuple[int, ...], set[int]] = {}
    for answer in answers:
        for at, token in enumerate(answer):
            after.setdefault(answer[:at], set()).add(token)
    following: Mapping[tuple[int, ...], list[int]] = {start: sorted(tokens) for start, tokens in after.items()}
    ends = sorted({answer[-1] for answer in answers})
    return lambda so_far: following.get(so_far, ends)
