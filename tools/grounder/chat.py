"""The box of an expression: a chat model on a server that writes boxes, such as Qwen-VL.

The picture is sent at a size that Qwen-VL's own processor does not change, so the model's pixel coordinates are known.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from namepin.tools.entailment.checks import check_expressions
from namepin.tools.errors import ToolUnavailable
from namepin.tools.grounder.config import ChatGrounderConfig
from namepin.tools.grounder.qwen_boxes import (
    BOXES_DIGEST,
    REPAIR,
    SYSTEM,
    Size,
    boxes_in,
    question,
    resize_for_model,
)
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, ScoredBox
from namepin.tools.llm.cached_tool import CachedChatTool, Unusable, ask_with_repair
from namepin.tools.llm.client import Ask, Reply
from namepin.tools.llm.content import data_url, picture_and_text
from namepin.tools.media import Media, picture
from namepin.tools.types import Frozen, ImageRef, Notice


class _Found(Frozen):
    """A cached answer: the boxes, and the number of invalid ones."""

    grounded: Grounded
    dropped: int = 0


class ChatGrounder(CachedChatTool[GroundRequest, _Found]):
    """Asks one question per query (`Grounder`). Answers are cached on disk.

    Raises:
        NamepinError: E310, E311 where the client cannot start (`ChatClient`).
    """

    name: ClassVar[str] = "grounder_chat"
    decides: ClassVar[frozenset[str]] = frozenset(
        {"min_pixels", "max_pixels", "top", "logprobs", "max_post", "max_expression"}
    )
    prompt_digest: ClassVar[str] = BOXES_DIGEST

    def __init__(self, config: ChatGrounderConfig) -> None:
        super().__init__(config, _Found)
        self.config = config
        self._settings |= {"frame": config.counts, "factor": config.multiple}

    def run(self, requests: Sequence[GroundRequest], media: Media) -> list[Groundings]:
        """Boxes for every query of every request, in the model's order; equal questions are asked once.

        Boxes of one answer have one score. It is the geometric mean of the answer's token probabilities where
        `logprobs` is set and the server gives them, else 1.

        Raises:
            NamepinError: E109 for an expression without words, E120 when `media` lacks the picture.
            ToolUnavailable: when one question fails after all retries, or gets two answers without a list of boxes; the
                other answers are then in the cache.
        """
        singles = [_single(request, i) for request in check_expressions(requests) for i in range(len(request.queries))]
        urls: dict[str, tuple[str, Size]] = {}

        async def locate(ask: Ask, single: GroundRequest) -> _Found:
            if single.image.sha256 not in urls:
                urls[single.image.sha256] = self._url(single.image, media)
            return await self._locate(ask, single, *urls[single.image.sha256])

        answers = iter(self.answers(locate, singles))
        return [self._groundings(request, [next(answers) for _ in request.queries]) for request in requests]

    def _url(self, image: ImageRef, media: Media) -> tuple[str, Size]:
        config = self.config
        seen = resize_for_model(picture(image, media), config.multiple, config.min_pixels, config.max_pixels)
        return data_url(seen, max(seen.size)), seen.size

    async def _locate(self, ask: Ask, single: GroundRequest, url: str, shown_at: Size) -> _Found:
        extra: dict[str, Any] = {"logprobs": True, "top_logprobs": 1} if self.config.logprobs else {}
        size = single.image.width, single.image.height

        def read(reply: Reply) -> _Found | Unusable:
            found = boxes_in(reply.text, self.config.counts, shown_at, size, self.config.top)
            if found is None:
                return Unusable(reply.text)
            score = _score(reply)
            boxes = tuple(ScoredBox(box=box, score=score) for box in found[0])
            return _Found(grounded=Grounded(boxes=boxes), dropped=found[1])

        answer, _ = await ask_with_repair(ask, self.prompt(single, url), read, lambda _: REPAIR, extra=extra)
        if isinstance(answer, Unusable):
            raise ToolUnavailable(self.name, f"answered {answer[:60]!r}, no list of boxes", mend="set another model")
        return answer

    def prompt(self, single: GroundRequest, url: str) -> list[BaseMessage]:
        """The conversation about a request's first query; `url` is its picture's data URL."""
        text = question(single.text[: self.config.max_post], single.queries[0].expression[: self.config.max_expression])
        return [SystemMessage(SYSTEM), HumanMessage(picture_and_text(url, text))]

    def _groundings(self, request: GroundRequest, found: Sequence[_Found]) -> Groundings:
        notices = []
        long = sum(len(query.expression) > self.config.max_expression for query in request.queries)
        cut = [f"{long} of the expressions"] * bool(long)
        cut += ["the post"] * bool(request.queries and len(request.text) > self.config.max_post)
        if cut:
            notices.append(Notice(code="W145", tool=self.name, message=f"cut at its end: {', '.join(cut)}"))
        if dropped := sum(one.dropped for one in found):
            message = f"{dropped} answers were no boxes within the picture, and were left out"
            notices.append(Notice(code="W147", tool=self.name, message=message))
        return Groundings(groundings=tuple(one.grounded for one in found), notices=tuple(notices))


def _single(request: GroundRequest, index: int) -> GroundRequest:
    return request.model_copy(update={"queries": (request.queries[index],)})


def _score(reply: Reply) -> float:
    """Geometric mean of the answer's token probabilities; 1 where the server gave none."""
    logprobs = [min(said.likely[said.token], 0.0) for said in reply.tokens]
    return math.exp(sum(logprobs) / len(logprobs)) if logprobs else 1.0
