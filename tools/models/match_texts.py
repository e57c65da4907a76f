"""Queries as token ids: `ENTITY is belong CATEGORY.` between a first token and [SEP], for BERT-like text encoders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from namepin.tools.interfaces import Query
from namepin.tools.types import Notice

MATCH_PROMPT = "{entity} is belong {category}."
"""GEM's Table 8, word for word: the models are tuned on it."""


def match_text(query: Query) -> str:
    """The mention as the models see it, `ENTITY is belong CATEGORY.` with its full stop."""
    return MATCH_PROMPT.format(entity=query.text, category=query.category)


def without_special(text: str, tokenizer: Any) -> str:
    """`text` with the tokenizer's special tokens replaced by blanks: a post cannot contain a real `[SEP]`."""
    special = {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}
    for token in sorted(special, key=lambda token: (-len(token), token)):
        text = text.replace(token, " ")
    return text


@dataclass(frozen=True)
class Texts:
    """A batch of texts: token ids and mask, (rows, tokens), padded on the right."""

    ids: Tensor
    mask: Tensor

    def rows(self, part: slice) -> "Texts":
        """Some of the batch's rows."""
        return Texts(self.ids[part], self.mask[part])


class MatchTexts:
    """Makes `Texts` of queries.

    Args:
        tokenizer: BERT's, or one like it.
        first: id of the first token.
        longest: largest number of a text's tokens, including the first one and [SEP]; at least 8.
        device: device of the tensors.
    """

    def __init__(self, tokenizer: Any, first: int, longest: int, device: torch.device) -> None:
        self._words, self._first, self._longest, self._device = tokenizer, first, longest, device

    def __call__(self, queries: Sequence[Query]) -> Texts:
        """The texts of queries. A text that is too long loses the last tokens of the entity, never its category."""
        rows = []
        for query in queries:
            entity, tail = self._parts(query)
            entity = entity[: self._longest - 2 - len(tail)]
            rows.append([self._first, *entity, *tail, self._words.sep_token_id])
        return self._pad(rows)

    def plain(self, sentences: Sequence[str]) -> tuple[Texts, int]:
        """Sentences as token ids, cut at the end if they are too long, and the number of cut ones."""
        rows = [self._ids(without_special(sentence, self._words)) for sentence in sentences]
        room = self._longest - 2
        texts = self._pad([[self._first, *row[:room], self._words.sep_token_id] for row in rows])
        return texts, sum(len(row) > room for row in rows)

    def _pad(self, rows: Sequence[Sequence[int]]) -> Texts:
        longest = max(map(len, rows), default=0)
        pad = self._words.pad_token_id
        ids = torch.tensor([[*row, *([pad] * (longest - len(row)))] for row in rows], device=self._device)
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=self._device)
        return Texts(ids, mask)

    def notices(self, queries: Sequence[Query], tool: str) -> tuple[Notice, ...]:
        """Warnings for queries that were cut (W140), or that have no known token (W141)."""
        found = []
        for query in queries:
            entity, tail = self._parts(query)
            if len(entity) + len(tail) > self._longest - 2:
                found.append(Notice(code="W140", tool=tool, message=f"too long, its end is not read: {query.text!r}"))
            elif not set(entity) - {self._words.unk_token_id}:
                message = f"no word of it is known, only its category is judged: {query.text!r}"
                found.append(Notice(code="W141", tool=tool, message=message))
        return tuple(found)

    def _parts(self, query: Query) -> tuple[list[int], list[int]]:
        """The ids of the entity, and of the rest of the sentence, cut so that at least one of the entity's ids fits."""
        before, _, after = MATCH_PROMPT.partition("{entity}")
        tail = self._ids(after.format(category=query.category))
        return self._ids(before + without_special(query.text, self._words)), tail[: self._longest - 3]

    def _ids(self, text: str) -> list[int]:
        return list(self._words(text, add_special_tokens=False)["input_ids"])
