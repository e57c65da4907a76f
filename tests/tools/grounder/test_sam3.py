"""SAM 3 as grounder: ranked boxes and the first one's mask, which words it gets, answers that are no boxes."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.grounder.config import Part, Sam3GrounderConfig
from namepin.tools.grounder.sam3 import Sam3Grounder, phrase
from namepin.tools.interfaces import Groundings, GroundRequest, ReferringQuery
from namepin.tools.media import Media
from namepin.tools.models.config import Sam3Config
from namepin.tools.segmenter.config import Sam3SegmenterConfig
from namepin.tools.segmenter.sam3 import Instances, Sam3, Sam3Segmenter, full_size
from support.tiny_sam import PICTURE, image_ref
from support.tiny_sam3 import tiny_net, words

REF = image_ref(PICTURE)


def a_query(expansion: str | None = "a tall man", name: str = "Ada") -> ReferringQuery:
    told = "" if expansion is None else f" – {expansion}"
    return ReferringQuery(text=name, label="PER", category="athlete", expression=f"{name} (PER){told}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam3")
    tiny_net().save_pretrained(path)
    words().save_pretrained(path)
    return path


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_tool(folder: Path, ask: Part = "expansion", threshold: float = 0.0, most: int = 5) -> Sam3Grounder:
    sam = Sam3Config(weights=str(folder))
    return Sam3Grounder(Sam3GrounderConfig(sam=sam, ask=ask, threshold=threshold, most=most))


def a_request(*queries: ReferringQuery) -> GroundRequest:
    return GroundRequest(image=REF, text="a post", queries=queries)


def test_sam3_grounder_boxes_are_instances_by_descending_score(folder: Path, media: Media) -> None:
    tool = a_tool(folder, most=6)
    found = tool.run([a_request(a_query())], media)[0].groundings[0]
    instances = tool.sam.instances(tool.sam.features(PICTURE), "a tall man")
    order = instances.scores.argsort(descending=True)
    assert len(found.boxes) > 1
    assert [scored.score for scored in found.boxes] == sorted((s.score for s in found.boxes), reverse=True)
    best = instances.boxes[order[0]] * torch.tensor([PICTURE.width, PICTURE.height] * 2)
    for got, wanted, side in zip(found.boxes[0].box, best.tolist(), (50, 30, 50, 30), strict=True):
        assert got == pytest.approx(min(max(wanted, 0), side), abs=1e-4)
    region = full_size(instances.masks[order[0]], (PICTURE.width, PICTURE.height)).numpy() > 0.5
    assert region.any() and found.mask is not None
    assert (found.mask.to_array() == region).all()


@pytest.mark.parametrize(
    ("ask", "expression", "expected"),
    [
        ("expansion", "Ada – Co (PER) – a tall\n man.", "a tall man"),
        ("expansion", "a tall man", "a tall man"),  # expression.text = "expansion"
        ("expansion", "Ada – Co (PER)", "athlete"),
        ("entity", "Ada – Co (PER) – a man", "Ada – Co"),
        ("category", "Ada – Co (PER) – a man", "athlete"),
        ("expression", "Ada – Co (PER) – a man", "Ada – Co (PER) – a man"),
    ],
)
def test_phrase_of_query_returns_asked_words(ask: Part, expression: str, expected: str) -> None:
    query = ReferringQuery(text="Ada – Co", label="PER", category="athlete", expression=expression)
    assert phrase(query, ask) == expected


def test_sam3_grounder_asks_equal_phrases_once(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    real = Sam3.instances
    monkeypatch.setattr(
        Sam3, "instances", lambda self, features, text: asked.append(text) or real(self, features, text)
    )
    tool = a_tool(folder, ask="category")
    found = tool.run([a_request(a_query("one"), a_query("two", name="Bo"))], media)[0]
    assert asked == ["athlete"]
    assert len(found.groundings) == 2 and found.groundings[0] == found.groundings[1]


def test_sam3_grounder_threshold_and_most_select_best_boxes(folder: Path, media: Media) -> None:
    every = a_tool(folder, most=6).run([a_request(a_query())], media)[0].groundings[0].boxes
    assert a_tool(folder, most=1).run([a_request(a_query())], media)[0].groundings[0].boxes == every[:1]
    nothing = a_tool(folder, threshold=1.0).run([a_request(a_query())], media)[0].groundings[0]
    assert nothing.boxes == () and nothing.mask is None
    assert (
        len({a_tool(folder).fingerprint, a_tool(folder, most=1).fingerprint, a_tool(folder, "entity").fingerprint}) == 3
    )


def test_sam3_grounder_with_long_phrase_truncates_it_with_w145(folder: Path, media: Media) -> None:
    """32 tokens with the two at its ends: 30 letters of the tiny vocabulary."""
    long, short = a_query("b" * 90), a_query("b" * 30)
    cut = a_tool(folder).run([a_request(long)], media)[0]
    whole = a_tool(folder).run([a_request(short)], media)[0]
    assert [notice.code for notice in cut.notices] == ["W145"]
    assert "W145" not in [notice.code for notice in whole.notices]


def test_sam3_grounder_ignores_special_tokens_in_phrase(folder: Path, media: Media) -> None:
    tool = a_tool(folder)
    plain, forged = tool.run([a_request(a_query("a tall man")), a_request(a_query("a<|endoftext|>tall man"))], media)
    assert plain == forged


def instances(scores: list[float], boxes: list[list[float]], mask: float = 1.0) -> Instances:
    return Instances(torch.full((len(boxes), 4, 4), mask), torch.tensor(boxes), torch.tensor(scores))


def test_sam3_grounder_invalid_boxes_warn_w147(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [[0.9, 0.1, 0.2, 0.8], [-0.5, 0.0, 0.5, 2.0], [1.1, 0.0, 1.5, 1.0], [0.3, 0.3, 0.3, 0.6]]
    found = instances([0.9, 0.5, 0.8, 0.7], boxes)
    monkeypatch.setattr(Sam3, "instances", lambda self, features, text: found)
    result = a_tool(folder).run([a_request(a_query())], media)[0]
    grounded = result.groundings[0]
    assert [scored.box for scored in grounded.boxes] == [(0.0, 0.0, 25.0, 30.0)]
    assert grounded.mask is not None
    assert [notice.code for notice in result.notices] == ["W147"] and "3 boxes" in result.notices[0].message
    monkeypatch.setattr(Sam3, "instances", lambda self, features, text: instances([0.9], [[0, 0, 1, 1]], mask=0.2))
    assert a_tool(folder).run([a_request(a_query())], media)[0].groundings[0].mask is None


@pytest.mark.parametrize("broken", [([math.nan], [[0.0, 0, 1, 1]]), ([0.9], [[0.0, math.inf, 1, 1]])])
def test_sam3_grounder_with_non_finite_numbers_raises_tool_unavailable(
    folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch, broken: tuple[list[float], list[list[float]]]
) -> None:
    monkeypatch.setattr(Sam3, "instances", lambda self, features, text: instances(*broken))
    with pytest.raises(ToolUnavailable, match="not finite numbers"):
        a_tool(folder).run([a_request(a_query())], media)


def test_sam3_grounder_without_queries_words_or_picture_returns_none_or_raises(folder: Path) -> None:
    tool = a_tool(folder)
    assert tool.run([a_request()], Media()) == [Groundings(groundings=())]
    with pytest.raises(NamepinError, match="E120"):
        tool.run([a_request(a_query())], Media())
    empty = ReferringQuery(text="x", label="PER", category="PER", expression="(…) – !")
    with pytest.raises(NamepinError, match="E109"):
        tool.run([a_request(empty)], Media())


@pytest.mark.parametrize("image", [Image.new("RGB", (64, 64)), Image.new("RGB", (1600, 100), "white")])
def test_sam3_grounder_masks_have_picture_size(folder: Path, image: Image.Image) -> None:
    asked = GroundRequest(image=image_ref(image), text="", queries=(a_query(),))
    grounded = a_tool(folder).run([asked], Media(images={REF.sha256: image}))[0].groundings[0]
    assert grounded.mask is not None and grounded.mask.size == (image.height, image.width)
    for scored in grounded.boxes:
        x1, y1, x2, y2 = scored.box
        assert 0 <= x1 < x2 <= image.width and 0 <= y1 < y2 <= image.height


def test_sam3_grounder_and_segmenter_share_weights(folder: Path) -> None:
    grounder = a_tool(folder)
    assert Sam3Segmenter(Sam3SegmenterConfig(sam=grounder.config.sam)).sam is grounder.sam
