"""One tool, or one name, instead of a whole post: the same graph and tools, with the known results reused."""

from collections.abc import Mapping
from typing import Literal

from namepin.agent.api import Namepin
from namepin.agent.posts import Ready
from namepin.graphs.calls import Calls
from namepin.graphs.roles import CAPTIONER, KNOWLEDGE, RERANKER, SEGMENTER, TAGGER
from namepin.tools.base import digest
from namepin.tools.errors import NamepinError
from namepin.tools.images.load import LoadedImage
from namepin.tools.interfaces import Query, Segment, SegmentPrompt, SegmentRequest, Segments, Tags
from namepin.tools.media import Media
from namepin.tools.text import tweet_tokens
from namepin.tools.types import Box, Entity, Extraction, Frozen, Mention, Post, token_offsets

Coarse = Literal["PER", "LOC", "ORG", "OTHER"]

_BEFORE_PICTURE = frozenset({"examples", CAPTIONER.name, KNOWLEDGE.name, RERANKER.name})


class GivenTags:
    """`Calls` with a known answer of the tagger: later roles go to `calls`, earlier roles are skipped."""

    def __init__(self, calls: Calls, tags: Tags) -> None:
        self._calls, self._tags = calls, tags
        later = {role: value for role, value in calls.fingerprints.items() if role not in _BEFORE_PICTURE}
        self._fingerprints = {**later, TAGGER.name: digest(["given", tags.model_dump(mode="json")])}

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Role -> fingerprint; the tagger's fingerprint is computed from the given mentions."""
        return self._fingerprints

    async def call(self, tool: str, request: Frozen, media: Media) -> Frozen:
        """See `Calls.call`."""
        return self._tags if tool == TAGGER.name else await self._calls.call(tool, request, media)


async def ground_name(pin: Namepin, name: str, label: Coarse, extraction: Extraction, picture: LoadedImage) -> Entity:
    """Look for one name in a post's picture, with the tools and the thresholds of the profile.

    The request includes the post's other names, so that this name does not get another name's face.

    Args:
        pin: the profile.
        name: the name; a name that the text lacks is appended to it.
        label: its coarse type.
        extraction: the post's earlier result.
        picture: the post's picture.

    Raises:
        NamepinError: E10x for a name without a letter; E330 when the profile's own model does not list the name; as
            `Namepin.aextract`.
    """
    text, tokens = extraction.text, extraction.tokens
    span = _occurrence(tokens, tweet_tokens(name))
    if span is None:
        added = tweet_tokens(name)
        text, tokens, span = f"{text} {' '.join(added)}", (*tokens, *added), (len(tokens), len(tokens) + len(added))
    offsets = token_offsets(text, tokens)
    start, end = offsets[span[0]][0], offsets[span[1] - 1][1]
    asked = Mention(index=0, text=text[start:end], start=start, end=end, token_span=span, label=label)
    others = [_mention(e) for e in extraction.entities if e.end <= start or e.start >= end]
    mentions = sorted([asked, *others], key=lambda mention: mention.start)
    tags = Tags(tokens=tokens, mentions=tuple(m.model_copy(update={"index": i}) for i, m in enumerate(mentions)))
    given = Namepin(pin.settings, GivenTags(pin.calls, tags))
    found = await given.aextract(Ready(Post(id="name", text=text), picture))
    entity = next((entity for entity in found.entities if entity.start == start), None)
    if entity is None:  # a graph without a tagger finds its names by itself
        raise NamepinError("E330", f"the model does not list {name!r}", mend="look for it with another profile")
    return entity


def _mention(entity: Entity) -> Mention:
    later = {"text", "start", "end", "token_span", "label", "fine_label", "scores", "entropy"}
    return Mention(index=0, **entity.model_dump(include=later))


def _occurrence(tokens: tuple[str, ...], name: tuple[str, ...]) -> tuple[int, int] | None:
    wanted = [token.casefold() for token in name]
    for first in range(len(tokens) - len(wanted) + 1):
        if [token.casefold() for token in tokens[first : first + len(wanted)]] == wanted:
            return first, first + len(wanted)
    return None


async def segment_box(pin: Namepin, box: Box, what: Query, picture: LoadedImage) -> Segment:
    """The mask of a box's content.

    Args:
        pin: the profile, for its segmenter.
        box: the box in pixels of the upright picture.
        what: a description of the content, for segmenters that read text.
        picture: the picture.

    Raises:
        NamepinError: E330 when the profile has no segmenter, or the box lies outside the picture.
    """
    if SEGMENTER.name not in pin.calls.fingerprints:
        raise NamepinError("E330", "this profile has no segmenter", mend="choose another profile")
    if not (box[0] < picture.ref.width and box[1] < picture.ref.height and box[2] > 0 and box[3] > 0):
        size = f"{picture.ref.width} x {picture.ref.height}"
        raise NamepinError("E330", f"the box lies outside the picture of {size} pixels", mend="give a box within it")
    media = Media(images={picture.ref.sha256: picture.image})
    request = SegmentRequest(image=picture.ref, prompts=(SegmentPrompt(query=what, box=box, kind="object"),))
    answer = await pin.calls.call(SEGMENTER.name, request, media)
    assert isinstance(answer, Segments)
    return answer.segments[0]
