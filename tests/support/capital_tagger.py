"""A tagger that follows a rule."""

from collections.abc import Sequence
from typing import ClassVar

from namepin.tools.interfaces import TagRequest, Tags
from namepin.tools.media import Media
from namepin.tools.types import Mention, token_offsets


class CapitalTagger:
    """Every capitalised token that the knowledge mentions (or any, without knowledge) is a PER."""

    name: ClassVar[str] = "tagger"
    version: ClassVar[int] = 1
    fingerprint = "capital"

    def run(self, requests: Sequence[TagRequest], media: Media) -> list[Tags]:
        return [self._tag(request) for request in requests]

    def _tag(self, request: TagRequest) -> Tags:
        tokens = request.tokens or tuple(request.text.split())
        mentions: list[Mention] = []
        for i, (token, (start, end)) in enumerate(zip(tokens, token_offsets(request.text, tokens), strict=True)):
            if token[0].isupper() and (request.knowledge is None or token in request.knowledge):
                mentions.append(
                    Mention(index=len(mentions), text=token, start=start, end=end, token_span=(i, i + 1), label="PER")
                )
        return Tags(tokens=tokens, mentions=tuple(mentions))
