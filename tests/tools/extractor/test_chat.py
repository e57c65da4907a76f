"""The chat extractor against a scripted server: prompts, guides, the repaired answer, and scores."""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.extractor.chat import ChatExtractor
from namepin.tools.extractor.config import ChatExtractorConfig
from namepin.tools.extractor.prompt import SYSTEM
from namepin.tools.extractor.scores import item_scores
from namepin.tools.interfaces import Extracted, ExtractRequest
from namepin.tools.llm.client import AnswerToken
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from support.paths import GOLDEN
from support.scripted_chat import Server, serve

GOLDEN_FILE = GOLDEN / "extractor_prompt.txt"
IMAGE = ImageRef(sha256="a" * 64, width=640, height=480)
MEDIA = Media(images={"a" * 64: Image.new("RGB", (640, 480), (20, 200, 60))})
TEXT = 'Ada met Bob at <b>"Café"</b> .'
ONE = '{"entities": [{"text": "Ada", "type": "PER", "box": [0, 0, 500, 250]}]}'


def a_tool(url: str, model: str = "Qwen3-VL-8B", **changes: Any) -> ChatExtractor:
    given = {"model": model, "base_url": url, "retries": 0, "cache": False}
    return ChatExtractor(ChatExtractorConfig.model_validate(given | changes))


def a_request(text: str = TEXT, image: ImageRef | None = IMAGE) -> ExtractRequest:
    return ExtractRequest(text=text, image=image)


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve(*getattr(request, "param", (ONE,))) as server:
        yield server


def test_extractor_prompts_equal_golden_file() -> None:
    cases = [
        ("Qwen2.5-VL-7B", {"scheme": "gmner4"}, a_request()),
        ("Qwen3-VL-8B", {"scheme": "fmnerg8", "guide": "none"}, a_request()),
        ("other", {"scheme": "fmnerg51", "frame": "unit", "guide": "structured_outputs"}, a_request()),
        ("other", {"scheme": "gmner4", "frame": "unit"}, a_request(image=None)),
    ]
    said = ""
    for model, changes, request in cases:
        for message in a_tool("http://127.0.0.1:9/v1", model, **changes).prompt(request, MEDIA):
            text = message.content if isinstance(message.content, str) else message.content[-1]["text"]  # type: ignore[index]
            said += f"[{message.type}]\n{text}\n"
    assert said == GOLDEN_FILE.read_text("utf-8")


@pytest.mark.parametrize(
    ("model", "size", "box"),
    [
        ("Qwen/Qwen3-VL-8B-Instruct", (640, 480), (0, 0, 320, 120)),
        ("Qwen/Qwen2.5-VL-7B-Instruct", (644, 476), (0, 0, 500 / 644 * 640, 250 / 476 * 480)),
    ],
)
def test_chat_extractor_scales_boxes_by_frame_of_model(
    served: Server, model: str, size: tuple[int, int], box: tuple[float, ...]
) -> None:
    (found,) = a_tool(served.url, model).run([a_request()], MEDIA)
    system, user = served.bodies[0]["messages"]
    url = user["content"][0]["image_url"]["url"]
    assert system["content"] == SYSTEM
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == size
    assert [mention.text for mention in found.mentions] == ["Ada"] and found.notices == ()
    assert found.places[0].box == pytest.approx(box)


@pytest.mark.parametrize("guide", ["json_schema", "structured_outputs", "guided_json", "none"])
def test_chat_extractor_guide_puts_the_schema_where_the_server_reads_it(served: Server, guide: str) -> None:
    a_tool(served.url, guide=guide, scheme="fmnerg51").run([a_request()], MEDIA)
    (body,) = served.bodies
    if guide == "json_schema":
        item = body["response_format"]["json_schema"]["schema"]["properties"]["entities"]["items"]
    elif guide == "none":
        assert not {"response_format", "structured_outputs", "guided_json"} & body.keys()
        return
    else:
        item = (body[guide] if guide == "guided_json" else body[guide]["json"])["items"]
    assert len(item["properties"]["type"]["enum"]) == 51


def test_chat_extractor_config_of_unknown_model_requires_frame() -> None:
    with pytest.raises(ValidationError, match="set `frame`"):
        ChatExtractorConfig(model="gpt-4o")


@pytest.mark.parametrize("served", [("It is a nice picture.", ONE)], indirect=True)
def test_chat_extractor_with_prose_answer_asks_again_once(served: Server) -> None:
    (found,) = a_tool(served.url).run([a_request()], MEDIA)
    assert len(found.mentions) == 1 and len(served.bodies) == 2
    assert "not the list" in served.bodies[1]["messages"][-1]["content"]


@pytest.mark.parametrize("served", [("I'm sorry, I can't identify people.",), ("503",)], indirect=True)
def test_chat_extractor_without_list_raises_e300(served: Server) -> None:
    with pytest.raises(ToolUnavailable, match="E300"):
        a_tool(served.url).run([a_request()], MEDIA)


def test_chat_extractor_equal_posts_are_asked_once_and_cached(served: Server, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"cache": True, "cache_dir": tmp_path}
    first = a_tool(served.url, **settings).run([a_request(), a_request(), a_request("Ada")], MEDIA)
    assert len(served.bodies) == 2 and first[0] == first[1]
    assert a_tool("http://127.0.0.1:9/v1", **settings).run([a_request()], Media()) == first[:1]


def test_chat_extractor_long_post_is_cut_with_w164_and_lacking_picture_is_e120(served: Server) -> None:
    (found,) = a_tool(served.url).run([a_request("Ada " * 3000)], MEDIA)
    assert [notice.code for notice in found.notices] == ["W164"]
    assert len(served.bodies[0]["messages"][1]["content"][1]["text"]) < 6000
    with pytest.raises(NamepinError, match="E120"):
        a_tool(served.url).run([a_request()], Media())


def test_extractor_fingerprint_covers_scheme_and_frame_but_not_the_address() -> None:
    def fingerprint(url: str = "http://127.0.0.1:9/v1", **changes: Any) -> str:
        return a_tool(url, **changes).fingerprint

    assert fingerprint() == fingerprint("http://127.0.0.1:8/v1")
    assert (
        len({fingerprint(), fingerprint(scheme="fmnerg8"), fingerprint(frame="unit"), fingerprint(guide="none")}) == 4
    )


def test_item_scores_are_the_probabilities_of_type_and_box() -> None:
    pieces = ['[{"text": "A", "type": "', "P", "ER", '", "box": ', "null", '}, {"text": "B", "type": "', "LOC"]
    pieces += ['", "box": ', "[", "1, 2, 3, 4]}]"]
    likely = {"P": -0.1, "ER": -0.2, "null": -0.5, "LOC": -0.3, "[": -0.05}
    tokens = [AnswerToken(token=piece, likely={piece: likely.get(piece, 0.0)}) for piece in pieces]
    scores = item_scores(tokens, 2)
    assert scores is not None
    assert [score.type for score in scores] == pytest.approx([0.7408, 0.7408], abs=1e-3)
    assert [score.present for score in scores] == pytest.approx([1 - 0.6065, 0.9512], abs=1e-3)
    assert item_scores(tokens, 3) is None and item_scores([], 0) is None


def test_extracted_round_trips_through_json(served: Server) -> None:
    (found,) = a_tool(served.url).run([a_request()], MEDIA)
    assert Extracted.model_validate(json.loads(found.model_dump_json())) == found
