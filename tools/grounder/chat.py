"""Where is what an expression refers to? A chat model that writes boxes, such as Qwen-VL, on a server.

The picture is sent at a size that Qwen-VL's own processor leaves alone, so that the pixels the model counts are known.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from namepin.tools.base import canonical_json, fingerprint
from namepin.tools.caching.disk import DiskCache, default_cache_dir
from namepin.tools.captioner.chat import data_url
from namepin.tools.entailment.checks import checked
from namepin.tools.errors import ToolUnavailable
from namepin.tools.grounder.config import ChatGrounderConfig
from namepin.tools.grounder.qwen_boxes import (
    BOXES_DIGEST,
    REPAIR,
    SYSTEM,
    Size,
    boxes_in,
    question,
    shown,
)
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, ScoredBox
from namepin.tools.llm.client import Ask, ChatClient, Reply
from namepin.tools.media import Media, picture
from namepin.tools.types import Frozen, ImageRef, Notice


class _Found(Frozen):
    """What is kept of an answer: the boxes, and how many were none."""

    grounded: Grounded
    dropped: int = 0


class ChatGrounder:
    """One question a query (`Grounder`); answers are kept on disk.

    Raises:
        NamepinError: E310, E311 where the client cannot start (`ChatClient`).
    """

    name: ClassVar[str] = "grounder_chat"
    version: ClassVar[int] = 1

    def __init__(self, config: ChatGrounderConfig) -> None:
        self.config = config
        self._client = ChatClient(config, self.name)
        folder = (config.cache_dir or default_cache_dir()) / self.name
        self._cache = DiskCache(folder, config.cache_mb * 2**20) if config.cache else None

    @property
    def fingerprint(self) -> str:
        """Model, sampling, frame, bounds and prompt; not the server's address."""
        decides = {"min_pixels", "max_pixels", "top", "logprobs", "max_post", "max_expression"}
        settings = {**self._client.identity, **self.config.model_dump(mode="json", include=decides)}
        settings |= {"frame": self.config.counts, "factor": self.config.multiple}
        return fingerprint(self.name, self.version, settings, prompt=BOXES_DIGEST)

    def run(self, requests: Sequence[GroundRequest], media: Media) -> list[Groundings]:
        """Boxes for every query of every request, in the model's order; equal questions are asked once.

        A box's score is the geometric mean of the probabilities of its answer's tokens where `logprobs` is set and the
        server gives them, else 1: a ranking within one answer is its order.

        Raises:
            NamepinError: E109 for an expression without words, E120 when `media` lacks the picture.
            ToolUnavailable: when one question fails for good, or is twice answered with no list of boxes; the others'
                answers are in the cache by then.
        """
        singles = [_single(request, i) for request in checked(requests) for i in range(len(request.queries))]
        keys = [canonical_json(single) for single in singles]
        asked = dict(zip(keys, singles, strict=True))
        urls: dict[str, tuple[str, Size]] = {}

        async def locate(ask: Ask, key: str) -> _Found:
            single = asked[key]
            if single.image.sha256 not in urls:
                urls[single.image.sha256] = self._url(single.image, media)
            found = await self._locate(ask, single, *urls[single.image.sha256])
            if self._cache:
                self._cache.put(self.fingerprint, single, found.model_dump_json())
            return found

        answers = iter(self._client.answers(locate, lambda key: self._known(asked[key]), keys))
        return [self._groundings(request, [next(answers) for _ in request.queries]) for request in requests]

    def _known(self, single: GroundRequest) -> _Found | None:
        kept = self._cache.get(self.fingerprint, single) if self._cache else None
        return _Found.model_validate_json(kept) if kept else None

    def _url(self, image: ImageRef, media: Media) -> tuple[str, Size]:
        config = self.config
        seen = shown(picture(image, media), config.multiple, config.min_pixels, config.max_pixels)
        return data_url(seen, max(seen.size)), seen.size

    async def _locate(self, ask: Ask, single: GroundRequest, url: str, shown_at: Size) -> _Found:
        extra: dict[str, Any] = {"logprobs": True, "top_logprobs": 1} if self.config.logprobs else {}
        messages = self.prompt(single, url)
        size = single.image.width, single.image.height
        for _ in range(2):
            reply = await ask(messages, extra)
            read = boxes_in(reply.text, self.config.counts, shown_at, size, self.config.top)
            if read is not None:
                score = _score(reply)
                boxes = tuple(ScoredBox(box=box, score=score) for box in read[0])
                return _Found(grounded=Grounded(boxes=boxes), dropped=read[1])
            messages = [*messages, AIMessage(reply.text[:200]), HumanMessage(REPAIR)]
        raise ToolUnavailable(self.name, f"answered {reply.text[:60]!r}, no list of boxes", mend="set another model")

    def prompt(self, single: GroundRequest, url: str) -> list[BaseMessage]:
        """The conversation about a request's first query; `url` is its picture's data URL."""
        text = question(single.text[: self.config.max_post], single.queries[0].expression[: self.config.max_expression])
        parts: list[str | dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": text},
        ]
        return [SystemMessage(SYSTEM), HumanMessage(parts)]

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
    """Geometric mean of the answer's tokens' probabilities; 1 where the server told none."""
    told = [min(said.likely[said.token], 0.0) for said in reply.tokens]
    return math.exp(sum(told) / len(told)) if told else 1.0
