"""The starter matcher: decides whether each mention is in the picture, and which face or printed words show it.

A person is matched to a face, any other entity to the words of its name. The score is a probability, so the graph's
threshold of 0.5 means "more likely in the picture than not". The prior is the share of a type's mentions with a box in
the training data; Bayes' rule updates it with the evidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from namepin.tools.base import fingerprint
from namepin.tools.geometry import box_iou, clip_box
from namepin.tools.interfaces import Match, Matches, MatchRequest, Query
from namepin.tools.matcher.config import MatcherConfig
from namepin.tools.media import Media
from namepin.tools.vision.faces import Person
from namepin.tools.vision.name_search import NameInText, find_name, plain
from namepin.tools.vision.scene import Scene, scene_reader

Label = Literal["PER", "LOC", "ORG", "OTHER"]

IN_PICTURE: Mapping[str, float] = MappingProxyType({"PER": 0.651, "LOC": 0.088, "ORG": 0.275, "OTHER": 0.257})
"""Share of a type's mentions that have a box, in the GMNER v2.0 training split (3266 of 5019 PER, 168 of 1918 LOC,
834 of 3035 ORG, 465 of 1807 OTHER); `python -m namepin.evals.vision_check --data DIR` counts them again."""

_SEEN: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"PER": (0.70, 0.35), "LOC": (0.45, 0.04), "ORG": (0.35, 0.04), "OTHER": (0.30, 0.05)}
)
"""P(evidence | in the picture) and P(evidence | not in the picture), by type: a detected face for PER, the printed name
for other types. They are estimates, since the data set's pictures are not public."""

_NAME_WITHOUT_FACE = 0.4
"""P for a printed name of a person without a face: a poster, a headline, a person seen from behind."""

_CAPTIONED = 0.95
"""P for a face with the person's name printed right below it."""

_GUESSED = 0.8
"""Several names or several prominent people: assumed probability that the rule of `_assign` picks the right pair."""

_CROWD = 6
"""From this number of equally prominent people on, none is matched to a name."""


class StarterMatcher:
    """Faces for PER, printed names for the rest."""

    name: ClassVar[str] = "matcher"
    version: ClassVar[int] = 1

    def __init__(self, config: MatcherConfig) -> None:
        self.config = config
        self._scenes = scene_reader(config.scene)

    @property
    def fingerprint(self) -> str:
        """Covers the configuration and the OCR and OpenCV model files."""
        return fingerprint(
            "starter-matcher", self.version, self.config.model_dump(mode="json"), weights=self._scenes.weights
        )

    def run(self, requests: Sequence[MatchRequest], media: Media) -> list[Matches]:
        """One `Matches` per request; regions lie inside the picture."""
        return [match_scene(request, self._scenes.read(request.image, media)) for request in requests]


def match_scene(request: MatchRequest, scene: Scene) -> Matches:
    """Match all mentions of a post against what its picture shows."""
    written = [find_name(query.text, scene.lines) for query in request.queries]
    people = _match_people(request.queries, written, scene.people)
    size = (request.image.width, request.image.height)
    matches = []
    for i, query in enumerate(request.queries):
        match = people[i] if query.label == "PER" else _match_name(query, written[i])
        region = clip_box(match.region, size) if match.region else None
        matches.append(match.model_copy(update={"region": region, "kind": match.kind if region else None}))
    return Matches(matches=tuple(_with_rivals(matches)))


def posterior(label: str, seen: bool) -> float:
    """P(in the picture) of a mention of this type, given whether its kind of evidence was seen (Bayes' rule)."""
    where_present, where_absent = _SEEN[label]
    if not seen:
        where_present, where_absent = 1 - where_present, 1 - where_absent
    present = IN_PICTURE[label] * where_present
    return present / (present + (1 - IN_PICTURE[label]) * where_absent)


def _match_name(query: Query, written: NameInText | None) -> Match:
    unseen = posterior(query.label, seen=False)
    if written is None:
        return Match(score=round(unseen, 4), evidence="its name is not read in the picture")
    score = unseen + (posterior(query.label, seen=True) - unseen) * written.quality
    return Match(score=round(score, 4), region=written.box, kind="text", evidence=_reading(written))


def _reading(written: NameInText) -> str:
    places = f", in {written.places} places" if written.places > 1 else ""
    return f"reads {written.text!r}{places}"


@dataclass(frozen=True)
class _Pair:
    person: Person
    guessed: bool
    captioned: bool = False


def _match_people(
    queries: Sequence[Query], written: Sequence[NameInText | None], people: Sequence[Person]
) -> dict[int, Match]:
    """The matches of all PER queries, by query index."""
    names = [i for i, query in enumerate(queries) if query.label == "PER"]
    groups = _same_person([(i, queries[i].text) for i in names])
    pairs = _assign(groups, written, people)
    matches = {}
    for group in groups:
        pair = pairs.get(group[0])
        for i in group:
            text = written[i]
            matches[i] = _person_match(pair, len(people)) if pair else _absent_person(text, len(groups), people)
    return matches


def _assign(
    groups: Sequence[Sequence[int]], written: Sequence[NameInText | None], people: Sequence[Person]
) -> dict[int, _Pair]:
    """Assign at most one person to each name, by a fixed rule. Keys are the groups' first indices.

    1. A name printed right below a face, or on the chest, gets that face.
    2. Among the other people only prominent ones count: at least 0.6 times as prominent as the most prominent one.
    3. The most prominent of them, at most as many as there are names, get the names in text order, from left to right.
       Other names get no person.
    If step 3 has more than one name or person, its matches are guesses and marked ambiguous.
    """
    pairs: dict[int, _Pair] = {}
    free = list(people)
    for group in groups:
        captioned = next((p for p in free for i in group if _captions(written[i], p)), None)
        if captioned:
            pairs[group[0]] = _Pair(captioned, guessed=False, captioned=True)
            free.remove(captioned)
    names = [group[0] for group in groups if group[0] not in pairs]
    prominent = [p for p in free if p.prominence >= 0.6 * free[0].prominence]
    if len(prominent) >= _CROWD:
        return pairs
    chosen = sorted(prominent[: len(names)], key=lambda p: p.box)
    guessed = len(names) > 1 or len(prominent) > 1
    return pairs | {name: _Pair(person, guessed) for name, person in zip(names, chosen, strict=False)}


def _captions(written: NameInText | None, person: Person) -> bool:
    """Whether the name is printed under the face: from its chin to three faces lower, near its middle."""
    if written is None or written.quality < 0.9:
        return False
    x1, y1, x2, y2 = person.box
    unit, middle = x2 - x1, (written.box[0] + written.box[2]) / 2
    return abs(middle - (x1 + x2) / 2) < unit and y2 - 0.1 * unit <= written.box[1] <= y2 + 3 * unit


def _person_match(pair: _Pair, seen: int) -> Match:
    person = pair.person
    score = person.confidence * (_CAPTIONED if pair.captioned else posterior("PER", seen=True))
    evidence = f"face at {person.box[0]:.0f},{person.box[1]:.0f}" + (f" of {seen}" if seen > 1 else "")
    if pair.captioned:
        evidence += ", with the name below it"
    if pair.guessed:
        score *= _GUESSED
        evidence += "; who is who is a guess by size and order"
    return Match(score=round(score, 4), region=person.box, kind="face", evidence=evidence, ambiguous=pair.guessed)


def _absent_person(written: NameInText | None, names: int, people: Sequence[Person]) -> Match:
    if written and written.quality >= 0.9:
        evidence = f"{_reading(written)}, but no face goes with it"
        return Match(score=_NAME_WITHOUT_FACE, region=written.box, kind="text", evidence=evidence)
    score = posterior("PER", seen=False)
    if not people:
        return Match(score=round(score, 4), evidence="no face is found in the picture")
    evidence = (
        f"{len(people)} face{'s' * (len(people) > 1)} for {names} name{'s' * (names > 1)}: none left for this one"
    )
    return Match(score=round(score * _GUESSED, 4), evidence=evidence, ambiguous=True)


def _same_person(names: Sequence[tuple[int, str]]) -> list[list[int]]:
    """Group indices of names of the same person: `Jolie` after `Angelina Jolie`, or the same name again."""
    groups: list[tuple[set[str], list[int]]] = []
    for i, text in names:
        words = {plain(word) for word in text.split()} - {""}
        for known, members in groups:
            if words <= known or known <= words:
                known |= words
                members.append(i)
                break
        else:
            groups.append((words, [i]))
    return [members for _, members in groups]


def _with_rivals(matches: Sequence[Match]) -> list[Match]:
    """Mark a match as ambiguous when it lies on the same words as another mention's match."""
    marked = []
    for i, match in enumerate(matches):
        rivals = [other.region for j, other in enumerate(matches) if i != j and other.kind == match.kind == "text"]
        shared = any(r and match.region and box_iou(r, match.region) > 0.5 for r in rivals)
        marked.append(match.model_copy(update={"ambiguous": match.ambiguous or shared}))
    return marked
