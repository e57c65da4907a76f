"""MM-Grounding-DINO as a grounder: boxes against transformers' own processing, phrases, bounds, bad weights."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from transformers.models.grounding_dino.image_processing_pil_grounding_dino import GroundingDinoImageProcessorPil

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.grounder.config import MmGroundingDinoConfig
from namepin.tools.grounder.mmgdino import MmGroundingDinoGrounder, phrase_of
from namepin.tools.interfaces import Groundings, GroundRequest, ReferringQuery
from namepin.tools.media import Media
from namepin.tools.types import ImageRef
from support.tiny_blip import PICTURE, image_ref
from support.tiny_grounders import QUERIES, a_query, bert_words, ground_request, save_mmgdino, tiny_mmgdino

REF = image_ref(PICTURE)
SIDES = {"short_side": 64, "long_side": 96}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_mmgdino(tmp_path_factory.mktemp("mmgdino"))


@pytest.fixture(scope="module")
def kept(folder: Path) -> MmGroundingDinoGrounder:
    """Held for the module, so that equal settings share its net."""
    return a_tool(folder)


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_tool(folder: Path, **changes: Any) -> MmGroundingDinoGrounder:
    given: dict[str, Any] = {"weights": str(folder), "threshold": 0.0, **SIDES}
    return MmGroundingDinoGrounder(MmGroundingDinoConfig.model_validate(given | changes))


def a_request(*queries: ReferringQuery) -> GroundRequest:
    return ground_request(REF, *queries)


def test_mmgdino_boxes_equal_transformers_processor(folder: Path, media: Media) -> None:
    """One query at a time, with transformers' image processor, tokenizer and the arithmetic of its post-processing."""
    net, words = tiny_mmgdino(), bert_words()
    processor = GroundingDinoImageProcessorPil(size={"shortest_edge": 64, "longest_edge": 96})
    seen = processor(images=[PICTURE], return_tensors="pt")
    found = a_tool(folder, top=12).run([a_request(*QUERIES)], media)[0]
    width, height = PICTURE.size
    for text, grounded in zip(("a woman.", "the space agency on the wall.", "y."), found.groundings, strict=True):
        with torch.no_grad():
            output = net(**seen, **words(text, return_tensors="pt", return_token_type_ids=False))
        scores = output.logits[0].sigmoid().amax(-1)
        x, y, w, h = output.pred_boxes[0].unbind(-1)
        corners = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1).clamp(0, 1)
        corners = corners * torch.tensor([width, height, width, height])
        order = scores.argsort(descending=True)
        assert [box.score for box in grounded.boxes] == pytest.approx(scores[order].tolist(), abs=1e-4)
        assert len({round(box.score, 5) for box in grounded.boxes}) > 6, "a net that tells its boxes apart"
        wanted = [pytest.approx(row, abs=0.05) for row in corners[order].tolist()]
        assert [list(box.box) for box in grounded.boxes] == wanted


def test_mmgdino_scores_are_independent_of_batch(folder: Path, media: Media) -> None:
    queries = [a_query(f"name {i}", "x " * (i + 1)) for i in range(5)]
    alone = [a_tool(folder).run([a_request(query)], media)[0].groundings[0] for query in queries]
    assert len({grounded.boxes[0] for grounded in alone}) == 5
    for batch in (2, 64):
        found = a_tool(folder, text_batch=batch).run([a_request(*queries)], media)[0]
        for one, other in zip(found.groundings, alone, strict=True):
            assert [box.score for box in one.boxes] == pytest.approx([box.score for box in other.boxes], abs=1e-4)


def test_mmgdino_threshold_and_top_select_best_boxes(folder: Path, media: Media) -> None:
    every = a_tool(folder, top=12).run([a_request(QUERIES[0])], media)[0].groundings[0].boxes
    assert a_tool(folder, top=3).run([a_request(QUERIES[0])], media)[0].groundings[0].boxes == every[:3]
    middle = (every[4].score + every[5].score) / 2
    above = a_tool(folder, top=12, threshold=middle).run([a_request(QUERIES[0])], media)[0]
    assert above.groundings[0].boxes == every[:5]
    assert a_tool(folder, threshold=1).run([a_request(QUERIES[0])], media)[0].groundings[0].boxes == ()


@pytest.mark.parametrize(
    ("query", "phrase", "asked"),
    [
        (a_query("Ada", "a woman"), "expression", "Ada (PER) – a woman"),
        (a_query("Ada", "a woman"), "expansion", "a woman"),
        (a_query("Ada", "a woman"), "entity", "Ada"),
        (a_query("Ada"), "expansion", "Ada (PER)"),
        (a_query("B (x) – y", "a woman – tall"), "expansion", "a woman – tall"),
        (ReferringQuery(text="Ada", label="PER", category="PER", expression="a woman"), "expansion", "a woman"),
    ],
)
def test_phrase_of_query_returns_configured_part(query: ReferringQuery, phrase: Any, asked: str) -> None:
    assert phrase_of(query, phrase) == asked


def test_mmgdino_phrase_with_punctuation_is_one_phrase(folder: Path, media: Media) -> None:
    tool = a_tool(folder)
    one, other = (tool.run([a_request(a_query("Ada", text))], media)[0] for text in ("A b. C? [SEP] d", "a b c d"))
    assert one == other


@settings(max_examples=30)
@given(st.integers(1, 5000), st.integers(1, 5000))
@example(1, 192)
def test_mmgdino_input_size_equals_transformers_resize(kept: MmGroundingDinoGrounder, width: int, height: int) -> None:
    from transformers.image_transforms import get_size_with_aspect_ratio

    wanted = get_size_with_aspect_ratio((height, width), 64, 96)
    assert kept.input_size((width, height)) == (max(1, wanted[1]), max(1, wanted[0]))


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    st.tuples(*[st.floats(0, 1, width=32)] * 4),
)
def test_mmgdino_boxes_are_clipped_to_picture(
    kept: MmGroundingDinoGrounder, size: tuple[int, int], place: tuple[float, float, float, float]
) -> None:
    """Corners come back from centre and size; what reaches beyond the picture ends at its edge."""
    image = ImageRef(sha256="a" * 64, width=size[0], height=size[1])
    scores, places = torch.tensor([0.5], dtype=torch.float64), torch.tensor([place], dtype=torch.float64)
    grounded, empty = kept._best(scores, places, image)
    x, y, w, h = place
    wanted = [max(x - w / 2, 0) * size[0], max(y - h / 2, 0) * size[1], min(x + w / 2, 1) * size[0]]
    wanted.append(min(y + h / 2, 1) * size[1])
    assert len(grounded.boxes) + empty == 1
    for box in grounded.boxes:
        assert list(box.box) == pytest.approx(wanted)
        assert 0 <= box.box[0] < box.box[2] <= size[0] and 0 <= box.box[1] < box.box[3] <= size[1]


def test_mmgdino_with_empty_boxes_warns_w147(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    places = torch.tensor([[[0.5, 0.5, 0.0, 0.5], [0.5, 0.5, 1.0, 1.0], [-0.3, 0.5, 0.2, 0.2]]])
    monkeypatch.setattr(MmGroundingDinoGrounder, "detect", lambda *_: (torch.tensor([[0.9, 0.8, 0.7]]), places))
    found = a_tool(folder).run([a_request(QUERIES[0])], media)[0]
    assert [box.box for box in found.groundings[0].boxes] == [(0.0, 0.0, PICTURE.width, PICTURE.height)]
    assert [notice.code for notice in found.notices] == ["W147"] and "2 answers" in found.notices[0].message


def test_mmgdino_with_nan_score_raises_unavailable(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = (torch.tensor([[math.nan]]), torch.zeros(1, 1, 4))
    monkeypatch.setattr(MmGroundingDinoGrounder, "detect", lambda *_: bad)
    with pytest.raises(ToolUnavailable, match="not finite numbers"):
        a_tool(folder).run([a_request(QUERIES[0])], media)


def test_mmgdino_on_full_memory_halves_batch(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = MmGroundingDinoGrounder.detect

    def small(self: MmGroundingDinoGrounder, pixels: Tensor, texts: Any) -> tuple[Tensor, Tensor]:
        if len(texts) > 2:
            raise torch.OutOfMemoryError("full")
        return whole(self, pixels, texts)

    monkeypatch.setattr(MmGroundingDinoGrounder, "detect", small)
    found = a_tool(folder).run([a_request(*QUERIES, *QUERIES)], media)[0]
    assert len(found.groundings) == 6 and [notice.code for notice in found.notices] == ["W144"]


@pytest.mark.parametrize("expansion", ["word " * 2000, "x" * 20000])
def test_mmgdino_with_long_expression_truncates_it_with_w145(folder: Path, media: Media, expansion: str) -> None:
    found = a_tool(folder).run([a_request(a_query("Ada", expansion))], media)[0]
    assert ("W145" in [notice.code for notice in found.notices]) == (expansion != "x" * 20000)  # one unknown word


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (3000, 2)])
def test_mmgdino_with_odd_picture_returns_boxes_inside(kept: MmGroundingDinoGrounder, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (200, 10, 30))
    found = kept.run([ground_request(image_ref(image), QUERIES[0])], Media(images={REF.sha256: image}))
    assert all(box.box[2] <= size[0] and box.box[3] <= size[1] for box in found[0].groundings[0].boxes)


def test_mmgdino_without_queries_words_or_picture_returns_none_or_raises(folder: Path) -> None:
    assert a_tool(folder).run([a_request()], Media()) == [Groundings(groundings=())]
    with pytest.raises(NamepinError, match="E120"):
        a_tool(folder).run([a_request(QUERIES[0])], Media())
    with pytest.raises(NamepinError, match="E109"):
        query = ReferringQuery(text="x", label="PER", category="PER", expression=" – ")
        a_tool(folder).run([a_request(query)], Media())


def test_mmgdino_with_bad_weights_raises_coded_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E210"):
        a_tool(tmp_path / "nowhere")
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "detr"}), "utf-8")
    with pytest.raises(NamepinError, match="E212"):
        a_tool(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    whole = (tmp_path / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(NamepinError, match="E211"):
        a_tool(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(whole)
    tokenizer = (tmp_path / "tokenizer.json").read_text("utf-8")
    moved = tokenizer.replace('".":1012', '".":1013').replace('".": 1012', '".": 1013')
    (tmp_path / "tokenizer.json").write_text(moved, "utf-8")
    with pytest.raises(NamepinError, match="E218"):
        a_tool(tmp_path)


def test_mmgdino_fingerprint_depends_on_relevant_settings_only(folder: Path) -> None:
    assert a_tool(folder).fingerprint == a_tool(folder, text_batch=2).fingerprint
    others = ({"phrase": "entity"}, {"threshold": 0.5}, {"top": 4}, {"long_side": 80})
    assert len({a_tool(folder, **change).fingerprint for change in ({}, *others)}) == 5
