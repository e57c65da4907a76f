"""Box and mask of a phrase: SAM 3, a maintained model for RiVEG's Table XI.

The table's row of this kind is UNINEXT, which predicts a mask from the expression itself. So does this tool, and the
graph then needs no segmenter. SAM 3 reads short noun phrases, not sentences with a name in them. `ask` chooses the part
of the expression that it gets.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch

from namepin.tools.base import fingerprint
from namepin.tools.entailment.checks import check_expressions
from namepin.tools.errors import ToolUnavailable
from namepin.tools.geometry import clip_box
from namepin.tools.grounder.config import Part, Sam3GrounderConfig
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, ReferringQuery, ScoredBox
from namepin.tools.media import Media, picture
from namepin.tools.segmenter.prompts import category_words
from namepin.tools.segmenter.sam3 import Instances, Sam3, full_size, shared_sam3
from namepin.tools.types import Mask, Notice


class Sam3Grounder:
    """Encodes the picture once per request; each mention's phrase finds instances, best first (`Grounder`).

    A score is SAM 3's score of the instance: the probability that it matches the phrase, times the probability that the
    phrase is present. The mask belongs to the best box.
    """

    name: ClassVar[str] = "grounder_sam3"
    version: ClassVar[int] = 1

    def __init__(self, config: Sam3GrounderConfig, sam: Sam3 | None = None) -> None:
        """Use `sam` if given, else load the model of `config.sam` or share it with the segmenter.

        Raises:
            NamepinError: E210 to E218, as `shared_sam3`.
        """
        self.config = config
        self.sam = sam or shared_sam3(config.sam)

    @property
    def fingerprint(self) -> str:
        """Covers weights, phrase, threshold and number of boxes."""
        settings = self.config.model_dump(include={"ask", "threshold", "most"})
        return fingerprint(self.name, self.version, settings, weights=self.sam.identity["checkpoint"])

    def run(self, requests: Sequence[GroundRequest], media: Media) -> list[Groundings]:
        """Boxes for every query of every request, in pixels of the upright picture, and the first one's mask.

        Raises:
            NamepinError: E109 for an expression without words, E120 when a picture is not in `media`.
            ToolUnavailable: when the weights give numbers that are not finite.
        """
        return [self._groundings(request, media) for request in check_expressions(requests)]

    def _groundings(self, request: GroundRequest, media: Media) -> Groundings:
        if not request.queries:
            return Groundings(groundings=())
        size = request.image.width, request.image.height
        features = self.sam.features(picture(request.image, media))
        phrases = [phrase(query, self.config.ask) for query in request.queries]
        # Mentions of one category ask the same.
        found = {words: self._ground(self.sam.instances(features, words), size) for words in dict.fromkeys(phrases)}
        cut, dropped = sum(map(self.sam.too_long, phrases)), sum(found[words][1] for words in phrases)
        notices = []
        if cut:
            message = f"{cut} phrases are longer than SAM 3's text encoder reads; their ends were left out"
            notices.append(Notice(code="W145", tool=self.name, message=message))
        if dropped:
            message = f"{dropped} boxes were inverted, empty or outside the picture, and were left out"
            notices.append(Notice(code="W147", tool=self.name, message=message))
        return Groundings(groundings=tuple(found[words][0] for words in phrases), notices=tuple(notices))

    def _ground(self, found: Instances, size: tuple[int, int]) -> tuple[Grounded, int]:
        """The instances above the threshold as boxes, and the number of invalid ones."""
        numbers: tuple[Any, ...] = (found.scores, found.boxes, found.masks)
        if not all(bool(torch.isfinite(part).all()) for part in numbers):
            raise ToolUnavailable(self.name, "the model's answers are not finite numbers", mend="check its weights")
        ranked = [int(i) for i in found.scores.argsort(descending=True, stable=True)]
        ranked = [i for i in ranked if found.scores[i] > self.config.threshold][: self.config.most]
        scale = torch.tensor([*size, *size], dtype=torch.float64)
        boxes: list[ScoredBox] = []
        first = None
        for i in ranked:
            x1, y1, x2, y2 = (found.boxes[i].double() * scale).tolist()
            box = clip_box((x1, y1, x2, y2), size)
            if box is not None:
                first = i if first is None else first
                boxes.append(ScoredBox(box=box, score=float(found.scores[i])))
        mask = None
        if first is not None:
            region = full_size(found.masks[first], size).numpy() > 0.5
            mask = Mask.from_array(region) if region.any() else None
        return Grounded(boxes=tuple(boxes), mask=mask), len(ranked) - len(boxes)


def phrase(query: ReferringQuery, ask: Part) -> str:
    """The part of a mention's expression that SAM 3 is asked about, in one line without a full stop."""
    expansion = query.expression.removeprefix(f"{query.text} ({query.label})").removeprefix(" –")
    chosen = {
        "expansion": expansion,
        "entity": query.text,
        "category": category_words(query),
        "expression": query.expression,
    }[ask]
    return " ".join(chosen.split()).rstrip(" .") or category_words(query)
