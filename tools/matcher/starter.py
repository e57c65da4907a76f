"""The starter matcher: decides whether each mention is in the picture, and which face or printed words show it.

It sees faces and printed words. A person is matched to a face, any other entity to the words of its name; whether the
thing itself is in the picture it cannot tell. The score is a probability, so the graph's threshold of 0.5 means "more
likely in the picture than not". For a face it begins with the share of people with a box in the training data, and
Bayes' rule updates it. A face is not compared with anybody: only the text and a caption say whose it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from namepin.tools.base import fingerprint
from namepin.tools.geometry import box_iou, clip_box
from namepin.tools.interfaces import Match, Matches, MatchRequest, Query, Sight
from namepin.tools.matcher.config import MatcherConfig
from namepin.tools.matcher.subject import Role, role_of
from namepin.tools.media import Media
from namepin.tools.types import Notice
from namepin.tools.vision.faces import Person
from namepin.tools.vision.name_search import NameInText, find_name, plain
from namepin.tools.vision.scene import Scene, scene_reader

IN_PICTURE: Mapping[str, float] = MappingProxyType({"PER": 0.651, "LOC": 0.088, "ORG": 0.275, "OTHER": 0.257})
"""Share of a type's mentions that have a box, in the GMNER v2.0 training split (3266 of 5019 PER, 168 of 1918 LOC,
834 of 3035 ORG, 465 of 1807 OTHER); `python -m namepin.evals.vision_check --data DIR` counts them again."""

_FACE_SEEN = (0.78, 0.35)
"""P(a face is detected | the person is in the picture) and P(... | is not). They are estimates, since the data set's
pictures are not public: nine in ten faces are found, and not every person's face is visible."""

_READ = 0.95
"""P(in the picture) of a name of which every letter is read; the rest is for names that mean something else here."""

_NOT_PEOPLE = frozenset({"animal"})
"""Fine types whose faces the detector does not know, should a profile count them among the people."""

SEEN = "faces and printed names"
"""What this matcher sees, for people."""

_LISTED = 5
"""Largest number of names in the warning about what cannot be told."""

_NAME_WITHOUT_FACE = 0.4
"""P for a printed name of a person without a face: a poster, a headline, a person seen from behind."""

_CAPTIONED = 0.95
"""P for a face with the person's name printed right below it."""

_GUESSED = 0.8
"""Several names or people, or a text about somebody else: assumed probability that the rule of `_assign` is right."""

_CROWD = 6
"""From this number of equally prominent people on, none is matched to a name."""


class StarterMatcher:
    """Faces for PER, printed names for the rest."""

    name: ClassVar[str] = "matcher"
    version: ClassVar[int] = 3
    sees: ClassVar[frozenset[Sight]] = frozenset({"faces", "words"})

    def __init__(self, config: MatcherConfig) -> None:
        self.config = config
        self._scenes = scene_reader(config.scene)

    @property
    def fingerprint(self) -> str:
        """Covers the configuration and the model files of the OCR and the face detector."""
        return fingerprint(
            "starter-matcher", self.version, self.config.model_dump(mode="json"), weights=self._scenes.weights
        )

    def run(self, requests: Sequence[MatchRequest], media: Media) -> list[Matches]:
        """One `Matches` per request; regions lie inside the picture."""
        return [match_scene(request, self._scene(request, media)) for request in requests]

    def warm(self) -> None:
        """Load the models of the OCR and the face detector."""
        self._scenes.warm()

    def _scene(self, request: MatchRequest, media: Media) -> Scene:
        """The picture's words, which may be any mention's name, and its faces where one could show a mention."""
        return self._scenes.read(request.image, media, faces=any(map(_is_person, request.queries)))


def match_scene(request: MatchRequest, scene: Scene) -> Matches:
    """Match all mentions of a post against what its picture shows."""
    written = [find_name(query.text, scene.lines, person=query.label == "PER") for query in request.queries]
    people = _match_people(request, written, scene.people)
    size = (request.image.width, request.image.height)
    matches = []
    for i, words in enumerate(written):
        match = people[i] if i in people else _match_name(words)
        region = clip_box(match.region, size) if match.region else None
        matches.append(match.model_copy(update={"region": region, "kind": match.kind if region else None}))
    return Matches(matches=tuple(_with_rivals(matches)), notices=tuple(cannot_tell(request.queries, matches)))


def _is_person(query: Query) -> bool:
    """Whether a face could show this mention."""
    return query.label == "PER" and query.category not in _NOT_PEOPLE


def cannot_tell(queries: Sequence[Query], matches: Sequence[Match], seen: str = SEEN) -> list[Notice]:
    """W125 with the names of which a matcher that sees `seen` cannot tell whether they are in the picture."""
    names = list(dict.fromkeys(query.text for query, m in zip(queries, matches, strict=True) if not m.can_tell))
    if not names:
        return []
    listed = ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if len(names) > _LISTED else "")
    message = f"cannot tell whether in the picture: {listed}. Only {seen} are seen"
    return [Notice(code="W125", tool=StarterMatcher.name, message=message)]


def face_posterior(seen: bool) -> float:
    """P(in the picture) of a person, given whether a face was detected (Bayes' rule)."""
    where_present, where_absent = _FACE_SEEN if seen else (1 - _FACE_SEEN[0], 1 - _FACE_SEEN[1])
    present = IN_PICTURE["PER"] * where_present
    return present / (present + (1 - IN_PICTURE["PER"]) * where_absent)


def _match_name(written: NameInText | None) -> Match:
    if written is None:
        return Match(score=0, can_tell=False, evidence="name not read; things are not recognised")
    score = round(_READ * written.quality, 4)
    return Match(score=score, region=written.box, kind="text", evidence=_reading(written))


def _reading(written: NameInText) -> str:
    places = f", in {written.places} places" if written.places > 1 else ""
    return f"reads {written.text!r}{places}"


@dataclass(frozen=True)
class _Pair:
    """A name's person: by a caption, or by a guess where the text or the numbers leave a choice."""

    person: Person
    guess: str | None = None
    captioned: bool = False


def _match_people(
    request: MatchRequest, written: Sequence[NameInText | None], people: Sequence[Person]
) -> dict[int, Match]:
    """The matches of all people among the queries, by query index."""
    names = [i for i, query in enumerate(request.queries) if _is_person(query)]
    groups = _same_person([(i, request.queries[i].text) for i in names])
    pairs = _assign(groups, written, people)
    matches = {}
    for group in groups:
        pair = pairs.get(group[0])
        role = _best_role(role_of(request.queries[i].text, request.text) for i in group)
        for i in group:
            if pair:
                matches[i] = _person_match(pair, role, len(people))
            else:
                matches[i] = _absent_person(written[i], len(groups), people)
    return matches


def _best_role(roles: Iterable[Role]) -> Role:
    found = set(roles)
    return next(role for role in ("subject", "aside", "absent") if role in found)


def _assign(
    groups: Sequence[Sequence[int]], written: Sequence[NameInText | None], people: Sequence[Person]
) -> dict[int, _Pair]:
    """Assign at most one person to each name, by a fixed rule. Keys are the groups' first indices.

    1. A name printed right below a face, or on the chest, gets that face.
    2. Among the other people only prominent ones count: at least 0.6 times as prominent as the most prominent one.
    3. The most prominent of them, at most as many as there are names, get the names in text order, from left to right.
       Other names get no person.
    If step 3 has several names, or more people than names, its matches are guesses and marked ambiguous.
    """
    pairs: dict[int, _Pair] = {}
    free = list(people)
    for group in groups:
        captioned = next((p for p in free for i in group if _captions(written[i], p)), None)
        if captioned:
            pairs[group[0]] = _Pair(captioned, captioned=True)
            free.remove(captioned)
    names = [group[0] for group in groups if group[0] not in pairs]
    prominent = [p for p in free if p.prominence >= 0.6 * free[0].prominence]
    if len(prominent) >= _CROWD:
        return pairs
    chosen = sorted(prominent[: len(names)], key=lambda p: p.box)
    guess = None
    if len(names) > 1 or len(free) > len(names):
        guess = "who is who is a guess by size and order"
    return pairs | {name: _Pair(person, guess) for name, person in zip(names, chosen, strict=False)}


def _captions(written: NameInText | None, person: Person) -> bool:
    """Whether the name is printed under the face: from its chin to three faces lower, near its middle."""
    if written is None or written.quality < 0.9:
        return False
    x1, y1, x2, y2 = person.box
    unit, middle = x2 - x1, (written.box[0] + written.box[2]) / 2
    return abs(middle - (x1 + x2) / 2) < unit and y2 - 0.1 * unit <= written.box[1] <= y2 + 3 * unit


def _person_match(pair: _Pair, role: Role, seen: int) -> Match:
    """The match of a name with a person. Without a caption nothing has compared the face with anybody."""
    person = pair.person
    evidence = f"face at {person.box[0]:.0f},{person.box[1]:.0f}" + (f" of {seen}" if seen > 1 else "")
    if pair.captioned:
        score = round(person.confidence * _CAPTIONED, 4)
        return Match(score=score, region=person.box, kind="face", evidence=f"{evidence}, with the name below it")
    guess = pair.guess or ("the text is about others, too" if role == "aside" else None)
    score = round(person.confidence * face_posterior(seen=True) * (_GUESSED if guess else 1), 4)
    if role == "absent":
        return Match(score=score, can_tell=False, evidence=f"{evidence}, but the text says somebody is missing")
    evidence += f", not checked to be this person's{f'; {guess}' if guess else ''}"
    return Match(score=score, region=person.box, kind="face", evidence=evidence, ambiguous=guess is not None)


def _absent_person(written: NameInText | None, names: int, people: Sequence[Person]) -> Match:
    if written and written.quality >= 0.9:
        evidence = f"{_reading(written)}, but no face goes with it"
        return Match(score=_NAME_WITHOUT_FACE, region=written.box, kind="text", evidence=evidence)
    score = face_posterior(seen=False)
    if not people:
        return Match(score=round(score, 4), evidence="no face is found in the picture")
    evidence = (
        f"{len(people)} face{'s' * (len(people) > 1)} for {names} name{'s' * (names > 1)}: which is whose is open"
    )
    return Match(score=round(score * _GUESSED, 4), can_tell=False, evidence=evidence)


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
