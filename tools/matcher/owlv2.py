"""The starter matcher with an eye for things: OWLv2 looks for what no face and no printed word shows.

People are matched to faces, and names to printed words, as in the starter. Of the other names, those of a visible kind
are looked for by name in the picture. A miss does not tell, unless the user has measured below which score a physical
thing is absent (`absent_below`). Of companies, teams and brands only a logo may be visible: there a miss never tells.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

from namepin.tools.base import digest, fingerprint
from namepin.tools.geometry import clip_box
from namepin.tools.interfaces import Match, Matches, MatchRequest, Query, Sight
from namepin.tools.labels import FMNERG_TREE
from namepin.tools.matcher.config import Owlv2MatcherConfig
from namepin.tools.matcher.starter import cannot_tell, match_scene
from namepin.tools.media import Media, picture
from namepin.tools.models.owlv2 import Owlv2, shared_owlv2
from namepin.tools.vision.scene import scene_reader

THINGS = frozenset({"animal", "product_other", *FMNERG_TREE["building"]})
"""Fine types of single physical things: a detector with a measured `absent_below` may say that one is not there."""
SIGNS = frozenset({"brand_name_products", "award", *FMNERG_TREE["organization"]})
"""Fine types that a logo, a uniform or a trophy may show: they are looked for, but a miss does not tell."""
SEEN = "faces, printed names and things"


class Owlv2Matcher:
    """Faces for PER, printed names, and things by an open-vocabulary detector."""

    name: ClassVar[str] = "matcher_owlv2"
    version: ClassVar[int] = 1
    sees: ClassVar[frozenset[Sight]] = frozenset({"faces", "words", "objects"})

    def __init__(self, config: Owlv2MatcherConfig, detector: Owlv2 | None = None) -> None:
        """Use `detector` if given, else load or share the model of `config.owlv2`.

        Raises:
            NamepinError: E210 to E218, as `shared_owlv2`.
        """
        self.config = config
        self._scenes = scene_reader(config.scene)
        self._detector = detector or shared_owlv2(config.owlv2)

    @property
    def fingerprint(self) -> str:
        """Covers the scene's settings and models, the detector and its threshold; not the device."""
        settings = {**self.config.model_dump(mode="json", exclude={"owlv2"}), "things": sorted(THINGS | SIGNS)}
        weights = digest([self._scenes.weights, self._detector.identity])
        return fingerprint(self.name, self.version, settings, weights=weights)

    def run(self, requests: Sequence[MatchRequest], media: Media) -> list[Matches]:
        """One `Matches` per request; regions lie inside the picture.

        Raises:
            NamepinError: E120 when a picture is not in `media`.
        """
        return [self._matches(request, media) for request in requests]

    def _matches(self, request: MatchRequest, media: Media) -> Matches:
        starter = match_scene(request, self._scenes.read(request.image, media))
        matches = list(starter.matches)
        asked = [at for at, query in enumerate(request.queries) if not matches[at].can_tell and _kind_is_visible(query)]
        names = list(dict.fromkeys(request.queries[at].text for at in asked))
        found = dict(zip(names, self._find(request, names, media), strict=True))
        for at in asked:
            query = request.queries[at]
            score, box = found[query.text]
            region = clip_box(box, (request.image.width, request.image.height))
            matches[at] = self._match(query, score, region, matches[at])
        return Matches(matches=tuple(matches), notices=tuple(cannot_tell(request.queries, matches, SEEN)))

    def _find(
        self, request: MatchRequest, names: Sequence[str], media: Media
    ) -> list[tuple[float, tuple[float, float, float, float]]]:
        return self._detector.best(request.image.sha256, picture(request.image, media), names) if names else []

    def _match(
        self, query: Query, score: float, region: tuple[float, float, float, float] | None, starter: Match
    ) -> Match:
        probability = round(self.probability(score), 4)
        if score >= self.config.threshold and region is not None:
            return Match(score=probability, region=region, kind="object", evidence=f"a detector sees it, {score:.2f}")
        if query.category in THINGS and score < self.config.absent_below:
            evidence = f"name not read; a detector does not see it, {score:.2f}"
            return Match(score=min(probability, 0.4999), evidence=evidence)
        evidence = f"{starter.evidence}; a detector found nothing that shows it, {score:.2f}"
        return starter.model_copy(update={"evidence": evidence})

    def probability(self, score: float) -> float:
        """The detector's score on the scale of the graph's threshold: 0.5 at `threshold`, 1 at 1. Not calibrated."""
        return score ** (math.log(0.5) / math.log(self.config.threshold)) if score > 0 else 0.0


def _kind_is_visible(query: Query) -> bool:
    return query.category in THINGS | SIGNS or query.category in ("ORG", "OTHER")
