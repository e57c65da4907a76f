"""How the chat without a model interprets a message, and which name a user means."""

from typing import Any

import pytest

from namepin.agent.chat.phrasing import as_markdown, differences, explanation, which
from namepin.agent.chat.rule_model import UNCLEAR, WELCOME, route
from namepin.agent.config.settings import load_settings
from namepin.tools.types import Extraction
from support.agent_samples import entity, placed

TEXT = "Ada Example met Bo Other at the Grand Place"
NAMES = ["Ada Example", "Bo Other", "Grand Place"]
ENTITIES = (
    placed(TEXT, "Ada Example", (10, 10, 90, 200)),
    entity(TEXT, "Bo Other", groundable=False, match_score=0.2),
    entity(TEXT, "Grand Place", label="LOC", fine_label="city", scores={"city": 0.9}, groundable=False),
)


@pytest.mark.parametrize(
    ("message", "tool", "arguments"),
    [
        ("Extract entities from this post: Ada in Oslo", "extract", {"text": "Ada in Oslo"}),
        ("post: why is Ada here?", "extract", {"text": "why is Ada here?"}),
        ("Ada in Oslo", "extract", {"text": "Ada in Oslo"}),
        ("why is she not in the picture?", "explain", {"which": "is she not in the picture?"}),
        ("explain Bo Other", "explain", {"which": "Bo Other"}),
        ("Why do birds suddenly appear", "extract", {"text": "Why do birds suddenly appear"}),
        ("mask the second one", "segment", {"which": "mask the second one"}),
        ("mask 10, 20, 200, 300", "segment", {"box": [10.0, 20.0, 200.0, 300.0]}),
        ("again with gamma 0.4", "rerun", {"gamma": 0.4}),
        ("gamma=.5", "rerun", {"gamma": 0.5}),
        ("as CSV", "show", {"form": "csv"}),
        ("show it as a table", "show", {"form": "table"}),
        ("where is Bo Other in the picture?", "ground", {"name": "Bo Other"}),
        ("compare profiles", "compare", {}),
        ("help", None, {}),
        ("thanks!", None, {"reply": WELCOME}),
        ("Great, thank you", "extract", {"text": "Great, thank you"}),
        ("ok", None, {"reply": WELCOME}),
        ("how sure are you that Bo Other is there?", "explain", {"which": "Bo Other is there?"}),
        ("how sure are you that NASA is right?", "explain", {"which": "NASA is right?"}),
        ("are you sure that that is right?", "explain", {"which": "that is right?"}),
        ("are you sure about him?", "explain", {"which": "are you sure about him?"}),
        ("are you sure about the second one?", "explain", {"which": "are you sure about the second one?"}),
        ("what about her band?", None, {"reply": UNCLEAR}),
        ("who is she married to?", None, {"reply": UNCLEAR}),
        ("how sure are you about climate change?", None, {"reply": UNCLEAR}),
        ("Thanks to Ada Example for the music", "extract", {"text": "Thanks to Ada Example for the music"}),
        ("What a night with Bo Other", "extract", {"text": "What a night with Bo Other"}),
        ("post: what about her band?", "extract", {"text": "what about her band?"}),
    ],
)
def test_route_maps_message_to_tool_and_arguments(message: str, tool: str | None, arguments: dict[str, Any]) -> None:
    assert route(message, NAMES) == (tool, arguments)


@pytest.mark.parametrize(
    "message", ["why is she not in the picture?", "as CSV", "mask the second one", "gamma 0.4", "thanks!"]
)
def test_route_without_post_maps_every_message_to_extract(message: str) -> None:
    assert route(message, None) == ("extract", {"text": message})


def test_route_of_long_text_maps_to_extract() -> None:
    text = "mask the second one " * 20
    assert route(text, NAMES) == ("extract", {"text": text.strip()})


@pytest.mark.parametrize(
    ("said", "index"),
    [
        ("the second one", 1),
        ("2", 1),
        ("#3", 2),
        ("the last", 2),
        ("grand place", 2),
        ("Bo Othr", 1),
        ("is she not in the picture?", 1),
        ("is it not in the picture?", 2),
        ("9", None),
        ("something else", None),
    ],
)
def test_which_finds_entity_that_phrase_refers_to(said: str, index: int | None) -> None:
    assert which(ENTITIES, said) == index


def test_explanation_states_scores_with_thresholds() -> None:
    said = explanation(ENTITIES[1], load_settings("starter", environment={}))
    assert "entropy is 0.61 nats, above the gate's 0.2; this profile has no reranker" in said
    assert "match score 0.20 is below the threshold 0.5" in said


def test_as_markdown_escapes_pipes_and_newlines_of_names() -> None:
    extraction = Extraction(
        id="x", text="a|b met", tokens=("a|b", "met"), fingerprint="f", entities=(entity("a|b met", "a|b"),)
    )
    rows = differences(["one", "two"], [extraction, extraction.model_copy(update={"entities": ()})])
    assert rows[0]["two"] == "not found"
    assert "a\\|b" in as_markdown(rows) and len(as_markdown(rows).split("\n")) == 3
