"""Whether the picture entails expressions: a vision model on a server answers for all names of a post at once."""

from collections.abc import Sequence
from typing import ClassVar

from namepin.tools.base import fingerprint
from namepin.tools.entailment.checks import check_expressions, judge
from namepin.tools.entailment.config import ChatPostEntailmentConfig
from namepin.tools.interfaces import Entailments, EntailRequest
from namepin.tools.media import Media
from namepin.tools.models.chat_look import ChatLook, look_request
from namepin.tools.types import Notice


class ChatPostEntailment:
    """Judges all expressions of a post in one question (`EntailmentTool`). A score is 1 or 0.

    The question also asks for the boxes, which the grounder of this backend finds in the cache.

    Raises:
        NamepinError: E310, E311 where the client cannot start (`ChatClient`).
    """

    name: ClassVar[str] = "entailment_chat_post"
    version: ClassVar[int] = 1

    def __init__(self, config: ChatPostEntailmentConfig) -> None:
        self._look = ChatLook(config, "entailment")

    @property
    def fingerprint(self) -> str:
        """Covers the question, the model and the settings that affect an answer."""
        return fingerprint(self.name, self.version, {"look": self._look.fingerprint})

    def run(self, requests: Sequence[EntailRequest], media: Media) -> list[Entailments]:
        """Label and score for every query.

        Raises:
            NamepinError: E109 for an expression without words, E120 when `media` lacks the picture.
            ToolUnavailable: as `ChatLook.looks`.
        """
        asked = [look_request(one.image, one.text, one.queries) for one in check_expressions(requests)]
        return [
            Entailments(
                entailments=tuple(judge(float(look.visible), self.name) for look in looks),
                notices=self._notices(self._look.cut(request.text, request.expressions)),
            )
            for request, looks in zip(asked, self._look.looks(asked, media), strict=True)
        ]

    def _notices(self, cut: str) -> tuple[Notice, ...]:
        return (Notice(code="W145", tool=self.name, message=cut),) if cut else ()
