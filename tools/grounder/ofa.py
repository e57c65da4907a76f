"""The box of an expression: OFA, fine-tuned on referring expressions (RiVEG section IV-C2).

OFA answers with four of its 1,000 bins (`namepin.tools.models.ofa_boxes`), found by beam search: each beam is a box.
OFA's own search may put any token in a box's four places; here only bins may stand there. The probabilities remain
those over the whole vocabulary, so a box that OFA would find is found with the same score.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch

from namepin.tools.base import fingerprint
from namepin.tools.entailment.checks import check_expressions
from namepin.tools.errors import ToolUnavailable
from namepin.tools.grounder.config import OfaGrounderConfig
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, ScoredBox
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.media import Media
from namepin.tools.models.ofa import OfaModel, as_in_riveg, shared_ofa
from namepin.tools.models.ofa_boxes import NOWHERE, box_of
from namepin.tools.models.ofa_vocabulary import BEGIN, END, MAX_WORDS
from namepin.tools.nets.ofa import Beams, Memory, Patches, continuations
from namepin.tools.types import ImageRef, Notice

QUESTION = ' which region does the text " {expression} " describe?'


class OfaGrounder:
    """Runs the ResNet once per picture, and one batch of questions for all its mentions (`Grounder`)."""

    name: ClassVar[str] = "grounder_ofa"
    version: ClassVar[int] = 1

    def __init__(self, config: OfaGrounderConfig, ofa: OfaModel | None = None) -> None:
        """Use `ofa` if given, else load or share the model of `config.ofa`.

        Raises:
            NamepinError: E210 to E218, as `shared_ofa`.
        """
        self.config = config
        self.ofa = ofa or shared_ofa(config.ofa)
        self.ofa.check_size(config.image_size)

    @property
    def fingerprint(self) -> str:
        """Covers weights, picture size, beams and prompt; not device and batch sizes."""
        settings = self.config.model_dump(include={"image_size", "beams"})
        return fingerprint(self.name, self.version, settings, weights=self.ofa.identity, prompt=QUESTION)

    def run(self, requests: Sequence[GroundRequest], media: Media) -> list[Groundings]:
        """Boxes for every query of every request, best first.

        A box's score is the geometric mean of its tokens' probabilities, including the end token's. OFA's own score
        is its logarithm.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small, or the weights give numbers that are not finite.
        """
        asked = [request.image for request in check_expressions(requests) if request.queries]
        with torch.inference_mode():
            patches = self.ofa.patches(asked, media, self.config.image_size)
            return [self._groundings(request, patches.get(request.image.sha256)) for request in requests]

    def _groundings(self, request: GroundRequest, patches: Patches | None) -> Groundings:
        if patches is None:  # no query is about this picture
            return Groundings(groundings=())
        spelled = [self.ofa.vocabulary.normalise_text(as_in_riveg(query.expression)) for query in request.queries]
        prompts = [self.ofa.prompt(QUESTION.format(expression=expression)) for expression, _ in spelled]

        def search(part: slice) -> Beams:
            return self.search(self.ofa.read(patches, prompts[part]))

        parts, halved = in_batches(len(prompts), self.config.ofa.text_batch, search, self.name)
        found = [
            self._ground(tokens, scores, request.image)
            for part in parts
            for tokens, scores in zip(part.tokens.tolist(), part.scores.double().tolist(), strict=True)
        ]
        dropped, cut = sum(dropped for _, dropped in found), sum(cut for _, cut in spelled)
        notices = (*self._notices(dropped, cut), *halved)
        return Groundings(groundings=tuple(grounded for grounded, _ in found), notices=notices)

    def search(self, memory: Memory) -> Beams:
        """The best answers to encoded questions: four bins and the end token, (n, beams, 5)."""
        bins = self.ofa.vocabulary.bin_ids().to(self.ofa.device)
        places = [bins, bins, bins, bins, torch.tensor([END], device=self.ofa.device)]
        return continuations(self.ofa.net, memory, BEGIN, places, self.config.beams)

    def _ground(self, beams: list[list[int]], scores: list[float], image: ImageRef) -> tuple[Grounded, int]:
        """The boxes of one query's beams, and the number of beams that are not a box."""
        if not all(map(math.isfinite, scores)):
            raise ToolUnavailable(self.name, "the model's scores are not finite numbers", mend="check its weights")
        words = self.ofa.vocabulary
        if tuple(token - words.first_bin for token in beams[0][:4]) == NOWHERE:
            return Grounded(), 0
        boxes = []
        for tokens, score in zip(beams, scores, strict=True):
            bins = [token - words.first_bin for token in tokens[:4]]
            box = box_of(bins, image.width, image.height, words.bins)
            if box is not None:
                boxes.append(ScoredBox(box=box, score=math.exp(score / len(tokens))))
        return Grounded(boxes=tuple(boxes)), len(beams) - len(boxes)

    def _notices(self, dropped: int, cut: int) -> list[Notice]:
        notices = []
        if cut:
            message = f"of {cut} expressions only the first {MAX_WORDS} words were read"
            notices.append(Notice(code="W145", tool=self.name, message=message))
        if dropped:
            message = f"{dropped} answers were inverted or empty boxes, which were left out"
            notices.append(Notice(code="W147", tool=self.name, message=message))
        return notices
