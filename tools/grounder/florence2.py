"""The box of an expression: Florence-2, a maintained model that writes boxes as tokens (MIT).

Florence-2 answers a question about a picture with words and 1,000 location tokens. This tool uses its question about a
single thing, "Locate ... in the image.". The answer names the thing and then its boxes, four locations each, or its
outlines. A location is the middle of one thousandth of the picture's width or height.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.entailment.checks import check_expressions
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.grounder.config import PATCH, Florence2Config
from namepin.tools.grounder.mmgdino import phrase_of
from namepin.tools.images.tensors import IMAGENET_MEAN, IMAGENET_STD, squash
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, ScoredBox
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.loading.pretrained import (
    another_model,
    device_named,
    identity,
    load_folder,
    load_tokenizer,
    shared_model,
)
from namepin.tools.media import Media, picture
from namepin.tools.models.match_texts import without_special
from namepin.tools.types import Box, ImageRef, Notice

FRONT, BACK = "Locate", " in the image."
"""The text around the phrase in Florence-2's open-vocabulary detection, word for word."""

BINS = 1000
MAX_ANSWER = 192
"""Largest number of tokens of an answer: the phrase, and a few boxes or one outline."""

MAX_TOKENS = 256
"""Largest number of tokens of an expression. The encoder's positions are shared with the picture."""

_MEND = "take Florence-2 in transformers' form, such as florence-community/Florence-2-large-ft"


class Florence2:
    """A loaded net with its vocabulary, safe for several threads."""

    def __init__(self, net: Any, tokenizer: Any, sha256: str, device: str) -> None:
        self.device = device_named(device)
        self.net, self.tokenizer = net.requires_grad_(False).to(self.device), tokenizer
        self.first_bin: int
        self.first_bin, self.outline, self.part = tokenizer.convert_tokens_to_ids(["<loc_0>", "<poly>", "<sep>"])
        self.identity = identity(sha256, net, sorted(tokenizer.get_vocab().items()))

    def check_size(self, size: int) -> None:
        """Check that the weights have position embeddings for all patches of a square picture of `size` pixels.

        Raises:
            NamepinError: E217 when they do not.
        """
        most = self.net.config.vision_config.max_position_embeddings
        # One position is for the picture as a whole, and some are for the words.
        while most**2 + 1 + MAX_TOKENS // 2 > self.net.config.text_config.max_position_embeddings:
            most -= 1
        if size > most * PATCH:
            what = f"pictures of {size} pixels have more patches than the weights have places for"
            raise NamepinError("E217", what, where=str(size), mend=f"set image_size to {most * PATCH} at most")

    def is_bin(self, token: int) -> bool:
        """Whether a token is one of the thousand locations."""
        return 0 <= token - self.first_bin < BINS


@dataclass(frozen=True)
class Answer:
    """One answer's tokens, and the probability of each given those before it."""

    tokens: list[int]
    probabilities: list[float]


class Florence2Grounder:
    """Encodes a picture once; its mentions are one batch of questions (`Grounder`)."""

    name: ClassVar[str] = "grounder_florence2"
    version: ClassVar[int] = 1

    def __init__(self, config: Florence2Config) -> None:
        """Load the weights, or share weights that are already loaded.

        Raises:
            NamepinError: E210 to E218, see `namepin.tools.loading.pretrained`.
        """
        self.config = config
        self.model = shared_model(config, _load)
        self.model.check_size(config.image_size)

    @property
    def fingerprint(self) -> str:
        """Covers weights, phrase, picture size and search; not device and batch size."""
        settings = self.config.model_dump(include={"phrase", "image_size", "beams", "top"})
        return fingerprint(self.name, self.version, settings, weights=self.model.identity, prompt=FRONT + BACK)

    def run(self, requests: Sequence[GroundRequest], media: Media) -> list[Groundings]:
        """Boxes for every query of every request, in the order of the answer.

        A box's score is the geometric mean of its locations' probabilities.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small, or the weights give numbers that are not finite.
        """
        with torch.inference_mode():
            return [self._groundings(request, media) for request in check_expressions(requests)]

    def _groundings(self, request: GroundRequest, media: Media) -> Groundings:
        if not request.queries:
            return Groundings(groundings=())
        seen = self.encode(request.image, media)
        texts = [self._ids(phrase_of(query, self.config.phrase), seen.shape[1]) for query in request.queries]

        def ask(part: slice) -> list[Answer]:
            return self.answers(seen, [ids for ids, _ in texts[part]])

        parts, halved = in_batches(len(texts), self.config.text_batch, ask, self.name)
        found = [self._ground(answer, request.image) for part in parts for answer in part]
        notices = self._notices(sum(empty for _, empty in found), sum(cut for _, cut in texts))
        return Groundings(groundings=tuple(grounded for grounded, _ in found), notices=(*notices, *halved))

    def encode(self, image: ImageRef, media: Media) -> Tensor:
        """The picture as the encoder's input, (1, positions, width of the net)."""
        pixels = squash(picture(image, media), self.config.image_size, IMAGENET_MEAN, IMAGENET_STD)
        seen: Tensor = self.model.net.get_image_features(pixels[None].to(self.model.device)).pooler_output
        if not seen.isfinite().all():
            raise ToolUnavailable(self.name, "the model's features are not finite numbers", mend="check its weights")
        return seen

    def answers(self, seen: Tensor, texts: Sequence[Sequence[int]]) -> list[Answer]:
        """The answer to each text, by beam search.

        Args:
            seen: the picture's embeddings, from `encode`.
            texts: token ids of the questions.
        """
        net, device = self.model.net, self.model.device
        longest, pad = max(map(len, texts)), net.config.text_config.pad_token_id
        ids = torch.tensor([[*text, *([pad] * (longest - len(text)))] for text in texts], device=device)
        words = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts], device=device)
        mask = torch.cat([words.new_ones(len(texts), seen.shape[1]), words], 1)
        inputs = torch.cat([seen.expand(len(texts), -1, -1), net.get_input_embeddings()(ids)], 1)
        memory = net.get_encoder()(inputs_embeds=inputs, attention_mask=mask)
        output = net.generate(
            encoder_outputs=memory, attention_mask=mask, num_beams=self.config.beams, do_sample=False,
            max_new_tokens=MAX_ANSWER, return_dict_in_generate=True, output_scores=True,
        )  # fmt: skip
        logs = net.compute_transition_scores(output.sequences, output.scores, output.beam_indices)
        tokens = output.sequences[:, -logs.shape[1] :]
        rows = zip(tokens.tolist(), logs.double().exp().tolist(), strict=True)
        return [Answer(answer, probabilities) for answer, probabilities in rows]

    def _ids(self, phrase: str, places: int) -> tuple[list[int], bool]:
        """The question's token ids, and whether the phrase's end was cut off; the picture takes `places` before it."""
        tokenizer = self.model.tokenizer
        words = " ".join(without_special(phrase, tokenizer).split()).rstrip(".")
        # The vocabulary splits at blanks first, so the three parts are spelt as the whole would be.
        front, middle, back = (
            tokenizer(part, add_special_tokens=False)["input_ids"] for part in (FRONT, f" {words}", BACK)
        )
        room = self.model.net.config.text_config.max_position_embeddings - places - len(front) - len(back) - 2
        room = min(MAX_TOKENS, room)
        ids = [tokenizer.bos_token_id, *front, *middle[:room], *back, tokenizer.eos_token_id]
        return ids, len(middle) > room

    def _ground(self, answer: Answer, image: ImageRef) -> tuple[Grounded, int]:
        """The boxes of one answer, and the number of invalid ones."""
        if not all(map(math.isfinite, answer.probabilities)):
            raise ToolUnavailable(self.name, "the model's scores are not finite numbers", mend="check its weights")
        boxes, empty = [], 0
        for bins, score in parse_places(answer, self.model):
            box = box_of(bins, image.width, image.height)
            if box is None:
                empty += 1
            else:
                boxes.append(ScoredBox(box=box, score=score))
        return Grounded(boxes=tuple(boxes[: self.config.top])), empty

    def _notices(self, empty: int, cut: int) -> list[Notice]:
        notices = []
        if cut:
            message = f"of {cut} expressions only the first words were read"
            notices.append(Notice(code="W145", tool=self.name, message=message))
        if empty:
            message = f"{empty} answers were inverted or empty boxes, which were left out"
            notices.append(Notice(code="W147", tool=self.name, message=message))
        return notices


def parse_places(answer: Answer, model: Florence2) -> list[tuple[list[int], float]]:
    """The four bins of each place that an answer names, with the geometric mean of its locations' probabilities.

    Four locations are a box; a shorter rest is ignored. The answer may also be an outline after `<poly>`, in parts with
    `<sep>` between them. An outline gives the box around all of its parts.
    """
    places = []
    for start, stop in _runs([model.is_bin(token) or token == model.part for token in answer.tokens]):
        at = [spot for spot in range(start, stop) if model.is_bin(answer.tokens[spot])]
        bins = [answer.tokens[spot] - model.first_bin for spot in at]
        scores = [answer.probabilities[spot] for spot in at]
        if start and answer.tokens[start - 1] == model.outline:
            if len(bins) >= 4:
                across, down = bins[: len(bins) // 2 * 2 : 2], bins[1::2]
                places.append(([min(across), min(down), max(across), max(down)], _geometric_mean(scores)))
        else:
            for first in range(0, len(bins) - 3, 4):
                places.append((bins[first : first + 4], _geometric_mean(scores[first : first + 4])))
    return places


def box_of(bins: Sequence[int], width: int, height: int) -> Box | None:
    """The box between the middles of four bins, in pixels; None when it is inverted or empty."""
    left, top, right, bottom = (
        (place + 0.5) / BINS * side for place, side in zip(bins, (width, height, width, height), strict=True)
    )
    return (left, top, right, bottom) if left < right and top < bottom else None


def _runs(marks: list[bool]) -> list[tuple[int, int]]:
    """Start and end (exclusive) of every stretch of true marks."""
    edges = [at for at, (one, other) in enumerate(pairwise([False, *marks, False])) if one != other]
    return list(zip(edges[::2], edges[1::2], strict=True))


def _geometric_mean(probabilities: list[float]) -> float:
    return math.prod(probabilities) ** (1 / len(probabilities))


def _load(config: Florence2Config, path: Path, sha256: str) -> Florence2:
    from transformers import Florence2ForConditionalGeneration

    if not path.is_dir():
        raise another_model("a Florence-2 is a folder", str(path), _MEND)
    net = load_folder(Florence2ForConditionalGeneration, path, kind="florence2", mend=_MEND)
    tokenizer = load_tokenizer(str(path), net.config.text_config.vocab_size)
    bins = tokenizer.convert_tokens_to_ids([f"<loc_{place}>" for place in range(BINS)])
    known = {*tokenizer.get_vocab()}
    if not {"<loc_0>", "<poly>", "<sep>"} <= known or bins != list(range(bins[0], bins[0] + BINS)):
        raise NamepinError(
            "E218", "the tokenizer has no thousand locations", where=str(path), mend="copy the one beside the weights"
        )
    return Florence2(net, tokenizer, sha256, config.device)
