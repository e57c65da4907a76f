"""Can an expression be grounded in the picture? ALBEF, tuned for visual entailment (RiVEG section IV-C1, Table VIII).

Sentence and picture go in as in the authors' code for SNLI-VE: the picture squashed to a square; of the sentence the
first 30 words, in small letters, without most punctuation. Before it stands [CLS], after it no [SEP]: so ALBEF was
trained throughout.

SNLI-VE has three classes, in the order contradiction, neutral, entailment; RiVEG's data have the first and the last.
A head of either kind is read, and the score is softmax over these two logits: neutral says nothing about where to look.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from tools.albef_checkpoint import AlbefCheckpoint, load_albef
from tools.base import fingerprint
from tools.entailing import checked, judged
from tools.halving import in_batches
from tools.interfaces import Entailments, EntailRequest
from tools.matching import picture
from tools.media import Media
from tools.preprocess import squash
from tools.pretrained import device_named, shared
from tools.types import Frozen, ImageRef, Notice

Positive = Annotated[int, Field(gt=0)]

_DROPPED = re.compile(r"[,.'!?\"()*#:;~]")
_AS_SPACE = str.maketrans("-/", "  ")


class AlbefEntailmentConfig(Frozen):
    """Which ALBEF, and how it is run."""

    weights: str = "albef_ve.pth"
    """A `.pth` file or folder tuned for visual entailment; none is published, so tune one (docs/riveg.md)."""

    revision: str | None = None
    """For names on the hub; a file has none."""

    tokenizer: str = "google-bert/bert-base-uncased"
    """A folder or hub name: the file brings none."""

    image_size: Positive = 384
    """Side of the square picture in pixels; position embeddings of another size are resized to it."""

    max_words: Positive = 30
    """Of an expression; its further words are not read."""

    device: str = "cpu"
    image_batch: Positive = 8
    text_batch: Positive = 32


class AlbefModel:
    """A loaded ALBEF; several threads may use it at once."""

    def __init__(self, config: AlbefEntailmentConfig, checkpoint: AlbefCheckpoint) -> None:
        self.device = device_named(config.device)
        self.net = checkpoint.net.eval().requires_grad_(False).to(self.device)
        self.tokenizer, self.identity = checkpoint.tokenizer, checkpoint.identity


def _load(config: AlbefEntailmentConfig, path: Path, sha256: str) -> AlbefModel:
    return AlbefModel(config, load_albef(path, sha256, tokenizer=config.tokenizer, image_size=config.image_size))


class AlbefEntailment:
    """One vision pass a picture, one batch of sentences for all its mentions (`EntailmentTool`)."""

    name: ClassVar[str] = "entailment_albef"
    version: ClassVar[int] = 1

    def __init__(self, config: AlbefEntailmentConfig) -> None:
        """Load the weights, or share them with another tool of equal settings.

        Raises:
            NamepinError: E210 to E218, see `tools.albef_checkpoint`.
        """
        self.config = config
        self.model = shared(config, _load)

    @property
    def fingerprint(self) -> str:
        """Over weights, picture size and words read; not over device and batch sizes."""
        settings = self.config.model_dump(include={"image_size", "max_words"})
        return fingerprint(self.name, self.version, settings, weights=self.model.identity)

    def run(self, requests: Sequence[EntailRequest], media: Media) -> list[Entailments]:
        """Label and P(entailment) for every query of every request.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small, or the weights yield no numbers.
        """
        wanted = {request.image.sha256: request.image for request in checked(requests) if request.queries}
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
        sentences = [as_trained(query.expression, self.config.max_words) for query in request.queries]
        rows = [self._ids(sentence) for sentence, _ in sentences]
        patches = states[request.image.sha256]

        def score(part: slice) -> list[float]:
            ids, mask = padded(rows[part], int(self.model.tokenizer.pad_token_id))
            logits = self.model.net(patches, ids.to(self.model.device), mask.to(self.model.device))
            return entailed(logits.cpu())

        parts, halved = in_batches(len(rows), self.config.text_batch, score, self.name)
        cut = sum(cut for _, cut in sentences)
        if cut:
            message = f"of {cut} expressions only the first {self.config.max_words} words were read"
            notices = (*notices, Notice(code="W145", tool=self.name, message=message))
        judgements = tuple(judged(score, self.name) for part in parts for score in part)
        return Entailments(entailments=judgements, notices=notices + halved)

    def _ids(self, sentence: str) -> list[int]:
        """[CLS] and the sentence's tokens, as many as the net has places for."""
        words: Any = self.model.tokenizer
        ids = [words.cls_token_id, *words(sentence, add_special_tokens=False)["input_ids"]]
        return ids[: self.model.net.sizes.positions]


def as_trained(expression: str, max_words: int) -> tuple[str, bool]:
    """An expression as ALBEF's data code for SNLI-VE spells it, and whether words of it were cut off."""
    text = _DROPPED.sub("", expression.lower()).translate(_AS_SPACE).replace("<person>", "person")
    words = re.sub(r"\s{2,}", " ", text).rstrip("\n").strip(" ").split(" ")
    return " ".join(words[:max_words]), len(words) > max_words


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Ids (n, tokens), padded on the right, and the mask of what is no padding."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *([pad] * (longest - len(row)))] for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
    return ids, mask


def entailed(logits: Tensor) -> list[float]:
    """P(entailment) against contradiction, of logits (n, 2 or 3): first comes contradiction, last entailment."""
    scores: list[float] = logits[:, [0, -1]].double().softmax(-1)[:, 1].tolist()
    return scores
