"""Whether a mention is in the picture: BLIP's image-text matching head (GEM section 3.4.1).

P_T is the softmax of the two ITM logits at "match", for the text `ENTITY is belong CATEGORY.`.
"""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from namepin.tools.base import fingerprint
from namepin.tools.interfaces import Match, Matches, MatchRequest
from namepin.tools.loading.out_of_memory import in_batches
from namepin.tools.matcher.config import BlipMatcherConfig
from namepin.tools.media import Media
from namepin.tools.models.blip import Blip, shared_blip
from namepin.tools.models.match_texts import MATCH_PROMPT


class BlipMatcher:
    """One vision pass per picture, and one batch of texts for all its mentions."""

    name: ClassVar[str] = "matcher_blip"
    version: ClassVar[int] = 1

    def __init__(self, config: BlipMatcherConfig, blip: Blip | None = None) -> None:
        """Use `blip` if given, else load or share the model of `config.blip`.

        Raises:
            NamepinError: E210 to E218, as `shared_blip`.
        """
        self.config = config
        self.blip = blip or shared_blip(config.blip)

    @property
    def fingerprint(self) -> str:
        """Covers weights, settings and the prompt's text; not device and batch sizes."""
        identity = self.blip.identity
        return fingerprint(self.name, self.version, identity, weights=identity["checkpoint"], prompt=MATCH_PROMPT)

    def run(self, requests: Sequence[MatchRequest], media: Media) -> list[Matches]:
        """P_T for every query of every request.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
            ToolUnavailable: when the device's memory is too small.
        """
        embeddings = self.blip.embeddings([request.image for request in requests if request.queries], media)
        return [self._matches(request, embeddings.get(request.image.sha256)) for request in requests]

    def _matches(self, request: MatchRequest, embedding: Tensor | None) -> Matches:
        if embedding is None:  # no query is about this picture
            return Matches(matches=())
        texts = self.blip.texts(request.queries)

        def score(part: slice) -> list[float]:
            logits = self.blip.logits(embedding, texts.rows(part))
            return [float(p) for p in logits.cpu().double().softmax(dim=-1)[:, 1]]

        parts, halved = in_batches(len(request.queries), self.config.blip.text_batch, score, self.name)
        matches = tuple(Match(score=score) for part in parts for score in part)
        return Matches(matches=matches, notices=self.blip.texts.notices(request.queries, self.name) + halved)
