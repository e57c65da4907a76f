"""Whether the picture entails an expression: ALBEF, tuned for visual entailment (RiVEG section IV-C1, Table VIII).

The picture is squashed to a square. The sentence is spelt as in training (`Spelling`). The authors' code drops most
punctuation, reads 30 words and adds no end token. LAVIS, which publishes weights tuned on SNLI-VE, keeps commas and
hyphens, reads at most 40 tokens, and ends them with [SEP].

SNLI-VE has three classes, in the order contradiction, neutral, entailment; RiVEG's data have the first and the last.
Heads of two and of three classes are supported. The score is the softmax over the logits of these two classes, since
neutral says nothing about the place.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.entailment.checks import check_expressions, judge
from namepin.tools.entailment.config import AlbefEntailmentConfig, Spelling
from namepin.tools.images.tensors import squash
from namepin.tools.interfaces import Entailments, EntailRequest
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.loading.pretrained import device_named, shared_model
from namepin.tools.media import Media, picture
from namepin.tools.models.albef_checkpoint import AlbefCheckpoint, load_albef
from namepin.tools.types import ImageRef, Notice

LAVIS_TOKENS = 40
"""Largest number of tokens of a sentence in LAVIS, with its two special tokens."""


class AlbefModel:
    """A loaded ALBEF, safe for several threads."""

    def __init__(self, config: AlbefEntailmentConfig, checkpoint: AlbefCheckpoint) -> None:
        self.device = device_named(config.device)
        self.net = checkpoint.net.eval().requires_grad_(False).to(self.device)
        self.tokenizer, self.identity = checkpoint.tokenizer, checkpoint.identity


def _load(config: AlbefEntailmentConfig, path: Path, sha256: str) -> AlbefModel:
    return AlbefModel(config, load_albef(path, sha256, tokenizer=config.tokenizer, image_size=config.image_size))


class AlbefEntailment:
    """One vision pass per picture, and one batch of sentences for all its mentions (`EntailmentTool`)."""

    name: ClassVar[str] = "entailment_albef"
    version: ClassVar[int] = 1

    def __init__(self, config: AlbefEntailmentConfig) -> None:
        """Load the weights, or share them with another tool of equal settings.

        Raises:
            NamepinError: E210 to E218, see `namepin.tools.models.albef_checkpoint`.
        """
        self.config = config
        self.model = shared_model(config, _load)
        self._spelling = config.spelling or ("albef" if self.model.net.sizes.kinds else "lavis")

    @property
    def fingerprint(self) -> str:
        """Covers weights, picture size and the spelling of sentences; not device and batch sizes."""
        settings = {**self.config.model_dump(include={"image_size", "max_words"}), "spelling": self._spelling}
        return fingerprint(self.name, self.version, settings, weights=self.model.identity)

    def run(self, requests: Sequence[EntailRequest], media: Media) -> list[Entailments]:
        """Label and P(entailment) for every query of every request.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small, or the weights give numbers that are not finite.
        """
        wanted = {request.image.sha256: request.image for request in check_expressions(requests) if request.queries}
        images = list(wanted.values())
        with torch.inference_mode():
            parts, halved = in_batches(
                len(images), self.config.image_batch, lambda part: self._encode(images[part], media), self.name
            )
            states = dict(zip(wanted, (row[None] for part in parts for row in part), strict=True))
            return [self._entailments(request, states, halved) for request in requests]

    def _encode(self, images: Sequence[ImageRef], media: Media) -> Tensor:
        squares = [squash(picture(image, media), self.config.image_size) for image in images]
        return self.model.net.encode(torch.stack(squares).to(self.model.device))

    def _entailments(
        self, request: EntailRequest, states: dict[str, Tensor], notices: tuple[Notice, ...]
    ) -> Entailments:
        if not request.queries:
            return Entailments(entailments=())
        sentences = [self.read(query.expression) for query in request.queries]
        rows = [ids for ids, _ in sentences]
        patches = states[request.image.sha256]

        def score(part: slice) -> list[float]:
            ids, mask = pad(rows[part], int(self.model.tokenizer.pad_token_id))
            logits = self.model.net(patches, ids.to(self.model.device), mask.to(self.model.device))
            return probabilities(logits.cpu())

        parts, halved = in_batches(len(rows), self.config.text_batch, score, self.name)
        cut = sum(cut for _, cut in sentences)
        if cut:
            message = f"of {cut} expressions only the first {max(map(len, rows))} tokens were read"
            notices = (*notices, Notice(code="W145", tool=self.name, message=message))
        judgements = tuple(judge(score, self.name) for part in parts for score in part)
        return Entailments(entailments=judgements, notices=notices + halved)

    def read(self, expression: str) -> tuple[list[int], bool]:
        """An expression's token ids, [CLS] first, and whether its end was cut off."""
        places = self.model.net.sizes.positions
        return sentence_ids(expression, self.model.tokenizer, self._spelling, places, self.config.max_words)


def sentence_ids(
    expression: str, words: Any, spelling: Spelling, places: int, max_words: int | None
) -> tuple[list[int], bool]:
    """An expression's token ids, [CLS] first, and whether its end was cut off.

    Args:
        expression: the referring expression of the graph.
        words: BERT's tokenizer.
        spelling: the spelling that the weights were trained with.
        places: number of the weights' position embeddings.
        max_words: None is the spelling's own bound.
    """
    lavis = spelling == "lavis"
    sentence, cut = (as_lavis if lavis else as_albef)(expression, max_words or (50 if lavis else 30))
    ids = list(words(sentence, add_special_tokens=False)["input_ids"])
    room = min(LAVIS_TOKENS, places) - 2 if lavis else places - 1
    return [words.cls_token_id, *ids[:room], *([words.sep_token_id] * lavis)], cut or len(ids) > room


def as_albef(expression: str, max_words: int) -> tuple[str, bool]:
    """An expression in the spelling of ALBEF's data code for SNLI-VE, and whether words were cut off."""
    text = re.sub(r"[,.'!?\"()*#:;~]", "", expression.lower()).replace("-", " ").replace("/", " ")
    return _first_words(text.replace("<person>", "person"), max_words)


def as_lavis(expression: str, max_words: int) -> tuple[str, bool]:
    """The same in the spelling of LAVIS's `blip_caption`."""
    return _first_words(re.sub(r"[.!\"()*#:;~]", " ", expression.lower()), max_words)


def _first_words(text: str, most: int) -> tuple[str, bool]:
    words = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ").split(" ")
    return " ".join(words[:most]), len(words) > most


def pad(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids (n, tokens), padded on the right, and the attention mask."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *([pad] * (longest - len(row)))] for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    return ids, mask


def probabilities(logits: Tensor) -> list[float]:
    """P(entailment) against contradiction from logits (n, 2 or 3): contradiction is first, entailment last."""
    scores: list[float] = logits[:, [0, -1]].double().softmax(-1)[:, 1].tolist()
    return scores
