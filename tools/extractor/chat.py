"""The extractor on a server: one question per post to a chat model that sees pictures, such as Qwen-VL."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from PIL import Image

from namepin.tools.errors import ToolUnavailable
from namepin.tools.extractor.answer import Answer, answer_schema, read_answer
from namepin.tools.extractor.config import ChatExtractorConfig, ListGuide
from namepin.tools.extractor.frames import BoxFrame
from namepin.tools.extractor.prompt import EXTRACTOR_DIGEST, REPAIR, SYSTEM, WRAPPED, extract_question
from namepin.tools.extractor.result import extracted, long_post
from namepin.tools.extractor.scores import item_scores
from namepin.tools.extractor.shots import Shots
from namepin.tools.interfaces import Extracted, ExtractRequest
from namepin.tools.labels import SCHEMES
from namepin.tools.llm.box_frames import Size, resize_for_model, shown_size
from namepin.tools.llm.cached_tool import CachedChatTool, Unusable, ask_with_repair, total_tokens
from namepin.tools.llm.client import Ask, Reply
from namepin.tools.llm.content import data_url, picture_and_text
from namepin.tools.media import Media, picture


class ChatExtractor(CachedChatTool[ExtractRequest, Extracted]):
    """Asks a chat model one question per post (`Extractor`). Answers are cached on disk.

    Raises:
        NamepinError: E310, E311 where the client cannot start (`ChatClient`).
    """

    name: ClassVar[str] = "extractor"
    decides: ClassVar[frozenset[str]] = frozenset(
        {"scheme", "guide", "logprobs", "min_pixels", "max_pixels", "max_post", "max_entities"}
    )
    prompt_digest: ClassVar[str] = EXTRACTOR_DIGEST

    def __init__(self, config: ChatExtractorConfig) -> None:
        super().__init__(config, Extracted)
        self.config = config
        self._shots = Shots(config.shots, config.scheme)
        self._settings |= {"frame": config.counts, "factor": config.multiple, **self._shots.settings}

    def run(self, requests: Sequence[ExtractRequest], media: Media) -> list[Extracted]:
        """Mentions and places of every post; equal posts are asked about once.

        Raises:
            NamepinError: E120 when `media` lacks the picture.
            ToolUnavailable: when one question fails after all retries, or gets two answers without a list; the other
                answers are then in the cache.
        """

        async def find(ask: Ask, request: ExtractRequest) -> Extracted:
            return await self._extract(ask, request, media)

        return self.answers(find, requests)

    async def _extract(self, ask: Ask, request: ExtractRequest, media: Media) -> Extracted:
        config, frame = self.config, self.frame(request)
        extra: dict[str, Any] = {"logprobs": True, "top_logprobs": 5} if config.logprobs else {}
        extra |= constrain_list(config.guide, SCHEMES[config.scheme])

        def read(reply: Reply) -> tuple[Answer, Reply] | Unusable:
            answer = read_answer(reply.text, config.scheme, config.max_entities)
            return Unusable(reply.text) if answer is None else (answer, reply)

        found, replies = await ask_with_repair(ask, self.prompt(request, media), read, lambda _: REPAIR, extra=extra)
        if isinstance(found, Unusable):
            what = f"answered {found[:60]!r}, no list of names"
            raise ToolUnavailable(self.name, what, mend="set another guide or model")
        answer, reply = found
        result = extracted(request, answer, frame, self.name, item_scores(reply.tokens, answer.rows))
        asked, said = total_tokens(replies)
        notices = (*long_post(request.text, config.max_post, self.name), *result.notices)
        return result.model_copy(update={"prompt_tokens": asked, "completion_tokens": said, "notices": notices})

    def frame(self, request: ExtractRequest) -> BoxFrame | None:
        """How the model counts in the request's picture; None without a picture."""
        return self._frame((request.image.width, request.image.height)) if request.image else None

    def _frame(self, size: Size) -> BoxFrame:
        config = self.config
        shown_at = shown_size(size, config.multiple, config.min_pixels, config.max_pixels)
        return BoxFrame(config.counts, shown_at, size)

    def prompt(self, request: ExtractRequest, media: Media) -> list[BaseMessage]:
        """The conversation about a request: the shots as earlier turns, then the question."""
        turns: list[BaseMessage] = [SystemMessage(SYSTEM)]
        wrapped = self.config.guide == "json_schema"
        for shot in self._shots.before(request.text):
            frame = self._frame(shot.picture.size) if shot.picture else None
            turns.append(self._question(shot.text, frame, shot.picture))
            turns.append(AIMessage(shot.answer(frame, wrapped=wrapped)))
        shown = picture(request.image, media) if request.image else None
        return [*turns, self._question(request.text, self.frame(request), shown)]

    def _question(self, text: str, frame: BoxFrame | None, pixels: Image.Image | None) -> HumanMessage:
        config = self.config
        asked = extract_question(text[: config.max_post], config.scheme, frame)
        if config.guide == "json_schema":
            asked = f"{asked}\n{WRAPPED}"
        if pixels is None:
            return HumanMessage(asked)
        shown = resize_for_model(pixels, config.multiple, config.min_pixels, config.max_pixels)
        return HumanMessage(picture_and_text(data_url(shown, max(shown.size)), asked))


def constrain_list(guide: ListGuide, types: Sequence[str]) -> Mapping[str, Any]:
    """The part of a request's body that allows only lists of the right form."""
    if guide == "none":
        return {}
    if guide == "structured_outputs":
        return {"structured_outputs": {"json": answer_schema(types, wrapped=False)}}
    if guide == "guided_json":
        return {"guided_json": answer_schema(types, wrapped=False)}
    named = {"name": "entities", "strict": True, "schema": answer_schema(types, wrapped=True)}
    return {"response_format": {"type": "json_schema", "json_schema": named}}
