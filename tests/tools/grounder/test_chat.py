"""The chat grounder against a scripted server: prompts, parsed answers, and faults."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.grounder.chat import ChatGrounder, _score
from namepin.tools.grounder.config import ChatGrounderConfig
from namepin.tools.interfaces import Grounded, Groundings, GroundRequest, ReferringQuery, ScoredBox
from namepin.tools.llm.client import AnswerToken, Reply
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from support.scripted_chat import Server, serve

MEDIA = Media(images={"a" * 64: Image.new("RGB", (640, 480), (20, 200, 60))})
EXPRESSION = "Garfield Park (LOC) – a green park"
ONE = '[{"bbox_2d": [0, 0, 500, 250]}]'


def a_request(*expressions: str, text: str = "At Garfield Park") -> GroundRequest:
    queries = [ReferringQuery(text="Garfield Park", label="LOC", category="LOC", expression=e) for e in expressions]
    return GroundRequest(image=ImageRef(sha256="a" * 64, width=640, height=480), text=text, queries=tuple(queries))


def a_tool(url: str, model: str = "Qwen3-VL-8B", **changes: Any) -> ChatGrounder:
    given = {"model": model, "base_url": url, "retries": 0, "cache": False}
    return ChatGrounder(ChatGrounderConfig.model_validate(given | changes))


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve(*getattr(request, "param", (ONE,))) as server:
        yield server


@pytest.mark.parametrize(
    ("model", "size", "box"),
    [
        ("Qwen/Qwen3-VL-8B-Instruct", (640, 480), (0, 0, 320, 120)),
        ("Qwen/Qwen2.5-VL-7B-Instruct", (644, 476), (0, 0, 500 / 644 * 640, 250 / 476 * 480)),
    ],
)
def test_chat_grounder_scales_boxes_by_frame_of_model(
    served: Server, model: str, size: tuple[int, int], box: tuple[float, ...]
) -> None:
    (found,) = a_tool(served.url, model).run([a_request(EXPRESSION)], MEDIA)
    url = served.bodies[0]["messages"][1]["content"][0]["image_url"]["url"]
    assert Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size == size
    (grounded,) = found.groundings
    assert grounded.boxes[0].box == pytest.approx(box) and grounded.boxes[0].score == 1
    assert found.notices == ()


def test_chat_grounder_config_of_unknown_model_requires_frame() -> None:
    with pytest.raises(ValidationError, match="set `frame`"):
        ChatGrounderConfig(model="gpt-4o")
    assert ChatGrounderConfig(model="gpt-4o", frame="thousand").multiple == 32


@pytest.mark.parametrize("served", [("Here you are, master.", ONE)], indirect=True)
def test_chat_grounder_with_prose_answer_retries_once(served: Server) -> None:
    (found,) = a_tool(served.url).run([a_request(EXPRESSION)], MEDIA)
    assert len(found.groundings[0].boxes) == 1 and len(served.bodies) == 2
    assert "not a list of boxes" in served.bodies[1]["messages"][-1]["content"]


@pytest.mark.parametrize("served", [("word " * 2000,), ("503",)], indirect=True)
def test_chat_grounder_without_usable_answer_raises_e300(served: Server) -> None:
    with pytest.raises(ToolUnavailable, match="E300"):
        a_tool(served.url).run([a_request(EXPRESSION)], MEDIA)


@pytest.mark.parametrize("served", [('[{"bbox_2d": [9, 9, 1, 1]}, {"bbox_2d": [0, 0, 5]}]',), ("[]",)], indirect=True)
def test_chat_grounder_with_invalid_boxes_returns_none_with_w147(served: Server) -> None:
    bad = "9" in served.script[0]
    (found,) = a_tool(served.url).run([a_request(EXPRESSION)], MEDIA)
    assert found.groundings == (Grounded(),)
    assert [notice.code for notice in found.notices] == (["W147"] if bad else [])


def test_chat_grounder_with_forty_queries_asks_equal_ones_once(served: Server) -> None:
    many = a_request(*[f"name {i} (PER) – it" for i in range(39)], "name 0 (PER) – it")
    found = a_tool(served.url).run([many, a_request()], MEDIA)
    assert [len(one.groundings) for one in found] == [40, 0] and len(served.bodies) == 39
    assert a_tool(served.url).run([a_request()], Media()) == [Groundings(groundings=())]


def test_chat_grounder_answers_come_from_cache(served: Server, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"cache": True, "cache_dir": tmp_path}
    first = a_tool(served.url, **settings).run([a_request(EXPRESSION)], MEDIA)
    gone = a_tool("http://127.0.0.1:9/v1", **settings)
    assert gone.run([a_request(EXPRESSION)], Media()) == first


def test_chat_grounder_with_wordless_or_long_request_raises_or_truncates(served: Server) -> None:
    with pytest.raises(NamepinError, match="E109"):
        a_tool(served.url).run([a_request(" ")], MEDIA)
    with pytest.raises(NamepinError, match="E120"):
        a_tool(served.url).run([a_request(EXPRESSION)], Media())
    (found,) = a_tool(served.url).run([a_request("word " * 2000, text="post " * 4000)], MEDIA)
    assert [notice.code for notice in found.notices] == ["W145"]
    assert len(served.bodies[-1]["messages"][1]["content"][1]["text"]) < 3000


def test_chat_grounder_score_equals_mean_token_probability() -> None:
    tokens = (AnswerToken(token="[", likely={"[": -0.2}), AnswerToken(token="]", likely={"]": -0.4}))
    assert _score(Reply(text="[]", tokens=tokens)) == pytest.approx(2.718281828**-0.3)
    assert _score(Reply(text="[]")) == 1


def test_chat_grounder_fingerprint_depends_on_relevant_settings_only() -> None:
    url = "http://127.0.0.1:9/v1"
    plain = a_tool(url)
    assert plain.fingerprint == a_tool("http://127.0.0.1:8/v1", retries=3, frame="thousand").fingerprint
    others = [a_tool(url, **changes) for changes in ({"top": 1}, {"frame": "pixels"}, {"factor": 16})]
    assert len({plain.fingerprint, *(tool.fingerprint for tool in others)}) == 4


def test_chat_grounder_box_without_log_probabilities_scores_one(served: Server) -> None:
    (found,) = a_tool(served.url, top=1).run([a_request(EXPRESSION)], MEDIA)
    assert found.groundings[0].boxes == (ScoredBox(box=(0, 0, 320, 120), score=1.0),)
