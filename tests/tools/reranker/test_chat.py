"""The chat reranker against a real server (a tiny LLaVA, trained here), and against a scripted one for faults."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from namepin.tools.errors import ToolUnavailable
from namepin.tools.interfaces import Reranked, RerankRequest
from namepin.tools.llm.constrained import parse_choice
from namepin.tools.media import Media
from namepin.tools.reranker.chat import SYSTEM, ChatReranker
from namepin.tools.reranker.config import ChatRerankerConfig
from namepin.tools.reranker.prompt import EXAMPLES, table7
from namepin.tools.types import ImageRef
from support import tiny_chat, tiny_vlm
from support import tiny_rerankers as tiny
from support.scripted_chat import Server, serve

PARK, BRIDGE = Image.new("RGB", (60, 60), (20, 200, 60)), Image.new("RGB", (60, 60), (200, 40, 40))
MEDIA = Media(images={"a" * 64: PARK, "b" * 64: BRIDGE})


def request(sha: str = "a", **changes: Any) -> RerankRequest:
    return tiny.request(0, image=ImageRef(sha256=sha * 64, width=60, height=60), **changes)


def reranker(url: str, model: str = "m", **changes: Any) -> ChatReranker:
    given = {"model": model, "base_url": url, "retries": 0, "timeout_s": 600, "cache": False}
    return ChatReranker(ChatRerankerConfig.model_validate(given | changes))


def test_chat_reranker_with_real_model_chooses_by_picture_and_caches(tmp_path: Path) -> None:
    # A server of transformers knows no guides: what the model says is checked all the same.
    query = table7(request(), "image")
    answers = {"park": PARK, "city": BRIDGE}
    tiny_vlm.train(tmp_path / "model", query, answers, system=SYSTEM)
    settings = {"guide": "none", "examples": False, "cache": True, "cache_dir": tmp_path}
    with tiny_chat.serve(tmp_path / "model") as url:
        tool = reranker(url, str(tmp_path / "model"), **settings)
        found = tool.run([request("a"), request("b"), request("a")], MEDIA)
    assert [answer.label for answer in found] == ["park", "city", "park"]
    gone = reranker("http://127.0.0.1:9/v1", str(tmp_path / "model"), **settings)
    assert gone.run([request("a"), request("b")], MEDIA) == found[:2]  # from the disk


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serve(*getattr(request, "param", ("park",))) as server:
        yield server


def test_chat_reranker_request_holds_examples_picture_and_hint(served: Server) -> None:
    reranker(served.url, hint=True).run([request(hint={"park": 0.7, "city": 0.2})], MEDIA)
    messages = served.bodies[0]["messages"]
    assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * 3, "user"]
    assert messages[0]["content"] == SYSTEM
    assert json.loads(messages[2]["content"]) == {"category": EXAMPLES[0][3]}
    picture, text = messages[-1]["content"]
    assert picture["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert text["text"] == table7(request(hint={"park": 0.7, "city": 0.2}), hint=True)
    assert served.bodies[0]["max_completion_tokens"] == 32


@pytest.mark.parametrize("guide", ["json_schema", "structured_outputs", "guided_choice", "none"])
def test_chat_reranker_guide_option_sets_request_constraint(served: Server, guide: str) -> None:
    assert reranker(served.url, guide=guide, examples=False).run([request()], MEDIA)[0].label == "park"
    body, names = served.bodies[0], list(request().candidates)
    assert len(body["messages"]) == 2
    if guide == "json_schema":
        schema = body["response_format"]["json_schema"]
        assert schema["strict"] and schema["schema"]["properties"]["category"]["enum"] == names
    elif guide == "structured_outputs":
        assert body["structured_outputs"] == {"choice": names}
    else:
        assert body.get("guided_choice") == (names if guide == "guided_choice" else None)


def test_chat_reranker_without_image_support_sends_caption(served: Server) -> None:
    reranker(served.url, sees_images=False).run([request(caption="green grass")], Media())
    assert served.bodies[0]["messages"][-1]["content"] == table7(request(caption="green grass"), "caption")


@pytest.mark.parametrize("served", [("the town", "It is a continent", "city"), ("Park!", '{"category": "city"}')],
                         indirect=True)  # fmt: skip
def test_chat_reranker_with_answer_outside_candidates_retries_once(served: Server) -> None:
    if len(served.script) == 3:
        with pytest.raises(ToolUnavailable, match="E300.*'It is a continent'.*not a candidate"):
            reranker(served.url).run([request()], MEDIA)
    else:
        assert reranker(served.url).run([request()], MEDIA)[0].label == "city"
    assert len(served.bodies) == 2
    assert "not one of the candidates" in served.bodies[1]["messages"][-1]["content"]


@pytest.mark.parametrize("served", [("503", "503", "city")], indirect=True)
def test_chat_reranker_after_server_errors_retries_and_answers(served: Server) -> None:
    assert reranker(served.url, retries=2, backoff_s=0.01).run([request()], MEDIA)[0].label == "city"


@pytest.mark.parametrize("served", [("503",)], indirect=True)
def test_chat_reranker_with_failing_server_raises_e300(served: Server) -> None:
    with pytest.raises(ToolUnavailable, match="E300.*503"):
        reranker(served.url).run([request()], MEDIA)


def test_chat_reranker_with_one_candidate_sends_no_request(served: Server) -> None:
    one = request(candidates=("city",))
    assert reranker(served.url).run([one], MEDIA) == [Reranked(label="city", scores={"city": 1.0})]
    assert served.bodies == []


def test_chat_reranker_with_long_post_truncates_it_with_w143(served: Server) -> None:
    tokens = (*["word"] * 4000, "Garfield", "Park", *["more"] * 4000)
    found = reranker(served.url, max_query=1000).run([request(tokens=tokens, token_span=(4000, 4002))], MEDIA)[0]
    assert [notice.code for notice in found.notices] == ["W143"]
    assert len(served.bodies[0]["messages"][-1]["content"][1]["text"]) <= 1000


@pytest.mark.parametrize(
    ("said", "label"),
    [("park", "park"), (" Park.\n", "park"), ('{"category": "city"}', "city"), ('"city"', "city"),
     ("<think>is it a city?</think>park", "park"), ("a park", None), ("", None), ("{}", None), ("[1]", None)],
)  # fmt: skip
def test_parse_choice_of_answer_returns_candidate_or_none(said: str, label: str | None) -> None:
    assert parse_choice(said, ("park", "city"), "category") == label


def test_chat_reranker_fingerprint_depends_on_relevant_settings_only() -> None:
    url = "http://127.0.0.1:9/v1"
    plain = reranker(url)
    assert plain.fingerprint == reranker("http://127.0.0.1:8/v1", retries=3).fingerprint
    others = [reranker(url, **changes) for changes in ({"hint": True}, {"examples": False}, {"guide": "none"})]
    assert len({plain.fingerprint, *(tool.fingerprint for tool in others)}) == 4
