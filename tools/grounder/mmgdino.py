"""The box of an expression: MM-Grounding-DINO, a maintained open-vocabulary detector (Apache-2.0).

The net reads a picture and a phrase together and proposes 900 boxes; a box's score is the highest sigmoid among the
phrase's tokens, as in transformers' own post-processing. The net reads text on both sides of a full stop as separate
phrases. One mention is one phrase, so full stops in it become blanks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.entailment.checks import check_expressions
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.geometry import clip_box
from namepin.tools.grounder.config import MmGroundingDinoConfig, Phrase
from namepin.tools.images.tensors import imagenet
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, ReferringQuery, ScoredBox
from namepin.tools.loading.adapters import Base, load_adapter_onto
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
from namepin.tools.types import ImageRef, Notice

MARKS = {"[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
"""The token ids that the net's code takes for the end of a phrase, from BERT's uncased vocabulary."""

_MEND = "take MM-Grounding-DINO in transformers' form, such as openmmlab-community/mm_grounding_dino_large_all"


class MmGroundingDino:
    """A loaded net with its vocabulary, safe for several threads."""

    def __init__(self, net: Any, tokenizer: Any, sha256: str, device: str) -> None:
        self.net, self.tokenizer = net.requires_grad_(False).to(device_named(device)), tokenizer
        self.identity = identity(sha256, net, sorted(tokenizer.get_vocab().items()))


class MmGroundingDinoGrounder:
    """Prepares a picture once; its mentions are one batch (`Grounder`)."""

    name: ClassVar[str] = "grounder_mmgdino"
    version: ClassVar[int] = 1

    def __init__(self, config: MmGroundingDinoConfig, model: MmGroundingDino | None = None) -> None:
        """Use the given model, else load the weights or share weights that are already loaded.

        Raises:
            NamepinError: see `load_mmgdino`.
        """
        self.config = config
        self.model = model or shared_model(config, load_mmgdino)

    @property
    def fingerprint(self) -> str:
        """Covers weights, phrase, threshold and sizes; not device and batch size."""
        settings = self.config.model_dump(include={"phrase", "threshold", "top", "short_side", "long_side"})
        return fingerprint(self.name, self.version, settings, weights=self.model.identity)

    def run(self, requests: Sequence[GroundRequest], media: Media) -> list[Groundings]:
        """Boxes for every query of every request, best first.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small, or the weights give numbers that are not finite.
        """
        with torch.inference_mode():
            return [self._groundings(request, media) for request in check_expressions(requests)]

    def _groundings(self, request: GroundRequest, media: Media) -> Groundings:
        if not request.queries:
            return Groundings(groundings=())
        texts = [self.ids(phrase_of(query, self.config.phrase)) for query in request.queries]
        pixels = self.pixels(picture(request.image, media)).to(self.model.net.device)

        def detect(part: slice) -> tuple[Tensor, Tensor]:
            return self.detect(pixels, [ids for ids, _ in texts[part]])

        parts, halved = in_batches(len(texts), self.config.text_batch, detect, self.name)
        scores, places = (torch.cat(rows).double().cpu() for rows in zip(*parts, strict=True))
        if not (scores.isfinite().all() and places.isfinite().all()):
            raise ToolUnavailable(self.name, "the model's scores are not finite numbers", mend="check its weights")
        found = [self._best(*row, request.image) for row in zip(scores, places, strict=True)]
        notices = self._notices(sum(empty for _, empty in found), sum(cut for _, cut in texts))
        return Groundings(groundings=tuple(grounded for grounded, _ in found), notices=(*notices, *halved))

    def detect(self, pixels: Tensor, texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Each text's scores, (n, boxes), and its boxes as centre, width and height in 0..1, (n, boxes, 4).

        Args:
            pixels: the prepared picture, (3, height, width).
            texts: token ids, from [CLS] to [SEP].
        """
        ids, words = (row.to(pixels.device) for row in padded_ids(texts))
        output = self.model.net(
            pixel_values=pixels.expand(len(texts), -1, -1, -1), input_ids=ids, attention_mask=words, return_dict=True
        )
        return output.logits.sigmoid().amax(-1), output.pred_boxes

    def ids(self, phrase: str) -> tuple[list[int], bool]:
        """The phrase's token ids, from [CLS] to its full stop and [SEP], and whether its end was cut off."""
        words = without_special(phrase, self.model.tokenizer).lower().replace(".", " ").replace("?", " ")
        ids = self.model.tokenizer(words, add_special_tokens=False)["input_ids"]
        room = self.model.net.config.max_text_len - 3
        return [MARKS["[CLS]"], *ids[:room], MARKS["."], MARKS["[SEP]"]], len(ids) > room

    def pixels(self, image: Image.Image) -> Tensor:
        """The picture as the net's input, (3, height, width)."""
        return imagenet(image.resize(self.input_size(image.size), Image.Resampling.BILINEAR))

    def input_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """The (width, height) of the net's input for a picture of `size`, with the same proportions."""
        short, long = min(size), max(size)
        side: float = self.config.short_side
        if long / short * side > self.config.long_side:
            side = self.config.long_side * short / long
        # As transformers' processor does: rounded and rounded down, and left alone where the shorter side fits.
        shorter, longer = round(side), int(side * long / short)
        if shorter == short:
            return size
        width, height = (max(1, shorter if at == short else longer) for at in size)
        return width, height

    def _best(self, scores: Tensor, places: Tensor, image: ImageRef) -> tuple[Grounded, int]:
        """The best boxes above the threshold, and the number of boxes that are empty or outside the picture."""
        order = scores.argsort(descending=True, stable=True)
        order = order[scores[order] > self.config.threshold][: self.config.top]
        boxes = []
        for score, place in zip(scores[order].tolist(), places[order].tolist(), strict=True):
            x, y, width, height = place
            left, right = ((x + part * width) * image.width for part in (-0.5, 0.5))
            top, bottom = ((y + part * height) * image.height for part in (-0.5, 0.5))
            if box := clip_box((left, top, right, bottom), (image.width, image.height)):
                boxes.append(ScoredBox(box=box, score=score))
        return Grounded(boxes=tuple(boxes)), len(order) - len(boxes)

    def _notices(self, empty: int, cut: int) -> list[Notice]:
        notices = []
        if cut:
            message = f"of {cut} expressions only the first words were read"
            notices.append(Notice(code="W145", tool=self.name, message=message))
        if empty:
            message = f"{empty} answers were empty boxes, which were left out"
            notices.append(Notice(code="W147", tool=self.name, message=message))
        return notices


def padded_ids(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Token ids, padded on the right, and the attention mask: (rows, tokens) each."""
    longest = max(map(len, texts))
    ids = [[*text, *([0] * (longest - len(text)))] for text in texts]
    return torch.tensor(ids), torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])


def phrase_of(query: ReferringQuery, phrase: Phrase) -> str:
    """The part of a query that is the prompt: the whole query, the text after the dash, or the name.

    Without a dash it is the whole query. The dash is looked for after the name, which may contain one itself.
    """
    if phrase == "entity":
        part = query.text
    elif phrase == "expansion":
        part = query.expression.removeprefix(query.text).partition(") – ")[2]
    else:
        part = query.expression
    return part if any(char.isalnum() for char in part) else query.expression


def load_mmgdino(config: MmGroundingDinoConfig, path: Path, sha256: str) -> MmGroundingDino:
    """The model of the settings, with its adapter, of located weights and their sha256.

    Raises:
        NamepinError: E210 to E218, see `namepin.tools.loading.pretrained`; E219 an adapter of other weights or another
            task.
        ModuleNotFoundError: an adapter without the package peft.
    """
    from transformers import MMGroundingDinoForObjectDetection

    if not path.is_dir():
        raise another_model("MMDetection's own files are not read", str(path), _MEND)
    net = load_folder(MMGroundingDinoForObjectDetection, path, kind="mm-grounding-dino", mend=_MEND)
    # The net hands BERT a mask of booleans, which "eager" attention would add to its logits as ones and zeros.
    net.model.text_backbone.set_attn_implementation("sdpa")
    tokenizer = load_tokenizer(str(path), net.config.text_config.vocab_size)
    if tokenizer.convert_tokens_to_ids(list(MARKS)) != list(MARKS.values()):
        raise NamepinError(
            "E218", "the tokenizer is not BERT's, uncased", where=str(path), mend="copy the one beside the weights"
        )
    # PEFT asks for the input embeddings, which transformers does not find in this net.
    net.get_input_embeddings = net.model.text_backbone.get_input_embeddings
    if config.adapter is not None:
        base = Base(weights=config.weights, revision=config.revision, sha256=sha256)
        sha256 += load_adapter_onto(net, Path(config.adapter), task="ground", base=base)
    return MmGroundingDino(net, tokenizer, sha256, config.device)
