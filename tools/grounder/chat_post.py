"""The boxes of expressions: a vision model on a server answers for all names of a post at once."""

from collections.abc import Sequence
from typing import ClassVar

from namepin.tools.base import fingerprint
from namepin.tools.entailment.checks import check_expressions
from namepin.tools.grounder.config import ChatPostGrounderConfig
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, ScoredBox
from namepin.tools.media import Media
from namepin.tools.models.chat_look import ChatLook, Look, look_request
from namepin.tools.types import Notice


class ChatPostGrounder:
    """Grounds all expressions of a post in one question (`Grounder`); one box at most, with score 1.

    After the entailment of this backend, with the same settings, its answers are in the cache, and nothing is asked.

    Raises:
        NamepinError: E310, E311 where the client cannot start (`ChatClient`).
    """

    name: ClassVar[str] = "grounder_chat_post"
    version: ClassVar[int] = 1

    def __init__(self, config: ChatPostGrounderConfig) -> None:
        self._look = ChatLook(config, "grounder")

    @property
    def fingerprint(self) -> str:
        """Covers the question, the model and the settings that affect an answer."""
        return fingerprint(self.name, self.version, {"look": self._look.fingerprint})

    def run(self, requests: Sequence[GroundRequest], media: Media) -> list[Groundings]:
        """A box, or none, for every query of every request.

        Raises:
            NamepinError: E109 for an expression without words, E120 when `media` lacks the picture.
            ToolUnavailable: as `ChatLook.looks`.
        """
        asked = [look_request(one.image, one.text, one.queries) for one in check_expressions(requests)]
        return [
            Groundings(
                groundings=tuple(_grounded(look) for look in looks),
                notices=self._notices(self._look.cut(request.text, request.expressions), looks),
            )
            for request, looks in zip(asked, self._look.looks(asked, media), strict=True)
        ]

    def _notices(self, cut: str, looks: Sequence[Look]) -> tuple[Notice, ...]:
        notices = [Notice(code="W145", tool=self.name, message=cut)] if cut else []
        if dropped := sum(look.dropped for look in looks):
            message = f"{dropped} answers were no boxes within the picture, and were left out"
            notices.append(Notice(code="W147", tool=self.name, message=message))
        return tuple(notices)


def _grounded(look: Look) -> Grounded:
    return Grounded(boxes=(ScoredBox(box=look.box, score=1.0),) if look.box else ())
