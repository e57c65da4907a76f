"""Florence-2 as a grounder: answers and boxes against transformers' own processing, scores, bounds, bad weights."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from transformers import Florence2Processor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.grounder.config import Florence2Config
from namepin.tools.grounder.florence2 import Answer, Florence2, Florence2Grounder, box_of, parse_places
from namepin.tools.images.tensors import IMAGENET_MEAN, IMAGENET_STD
from namepin.tools.interfaces import Grounded, GroundRequest, ReferringQuery
from namepin.tools.media import Media
from support.tiny_blip import PICTURE, image_ref
from support.tiny_grounders import QUERIES, a_query, florence_words, ground_request, save_florence2, tiny_florence2

REF = image_ref(PICTURE)
PHRASES = ("a woman", "the space agency on the wall", "y")
RULES: dict[str, Any] = {"description_with_bboxes": {}, "description_with_bboxes_or_polygons": {}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_florence2(tmp_path_factory.mktemp("florence2"))


@pytest.fixture(scope="module")
def kept(folder: Path) -> Florence2Grounder:
    """Held for the module, so that equal settings share its net."""
    return a_tool(folder)


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_tool(folder: Path, **changes: Any) -> Florence2Grounder:
    given: dict[str, Any] = {"weights": str(folder), "image_size": 64, "top": 20}
    return Florence2Grounder(Florence2Config.model_validate(given | changes))


def a_request(*queries: ReferringQuery) -> GroundRequest:
    return ground_request(REF, *queries)


def a_processor() -> Florence2Processor:
    eyes: Any = CLIPImageProcessorPil(
        size={"height": 64, "width": 64}, do_center_crop=False, image_mean=IMAGENET_MEAN, image_std=IMAGENET_STD
    )
    eyes.image_seq_length = 5
    return Florence2Processor(eyes, florence_words(), post_processor_config=RULES)


def boxes_of(grounded: Grounded) -> list[list[float]]:
    return [list(box.box) for box in grounded.boxes]


@pytest.mark.parametrize("beams", [2, 3])
def test_florence2_answers_equal_transformers_generate(folder: Path, media: Media, beams: int) -> None:
    """One query at a time through transformers' processor and generation; each score by reading the answer again."""
    net: Any = tiny_florence2()
    processor = a_processor()
    tool = a_tool(folder, beams=beams)
    seen = tool.encode(REF, media)
    texts = [tool._ids(phrase, seen.shape[1])[0] for phrase in PHRASES]
    for phrase, text, answer in zip(PHRASES, texts, tool.answers(seen, texts), strict=True):
        inputs = processor(text=f"<OPEN_VOCABULARY_DETECTION>{phrase}", images=PICTURE, return_tensors="pt")
        assert inputs["input_ids"][0].tolist() == [261] * 5 + text
        with torch.no_grad():
            torch.testing.assert_close(net.get_image_features(inputs["pixel_values"]).pooler_output, seen)
            whole = net.generate(**inputs, num_beams=beams, do_sample=False, max_new_tokens=192)[0]
            logits = net(**inputs, decoder_input_ids=whole[None, :-1]).logits[0]
        stop = len(whole) - 1
        assert answer.tokens[:stop] == whole[1:].tolist() and set(answer.tokens[stop:]) <= {1}
        read = logits.log_softmax(-1).gather(1, whole[1:, None])[:, 0].exp().tolist()
        # The first token is forced, and so is the end where an answer is too long.
        assert answer.probabilities[1 : stop - 1] == pytest.approx(read[1 : stop - 1], rel=1e-4)


def test_florence2_boxes_equal_transformers_processor(kept: Florence2Grounder, media: Media) -> None:
    """A tiny net writes letters of all kinds between its boxes; each stands as an "a", lest one look like a mark."""
    found = kept.run([a_request(*QUERIES)], media)[0]
    net: Any = tiny_florence2()
    processor, task = a_processor(), "<OPEN_VOCABULARY_DETECTION>"
    several = set()
    for phrase, grounded in zip(PHRASES, found.groundings, strict=True):
        inputs = processor(text=f"{task}{phrase}", images=PICTURE, return_tensors="pt")
        tokens = net.generate(**inputs, max_new_tokens=192)[0].tolist()
        text = "a" + "".join(f"<loc_{token - 262}>" if 262 <= token < 1262 else "a" for token in tokens)
        read = processor.post_process_generation(text=text, task=task, image_size=PICTURE.size)[task]["bboxes"]
        mine = [[math.floor(edge) for edge in box] for box in boxes_of(grounded)]
        assert mine == [box for box in read if box[0] < box[2] and box[1] < box[3]]
        several |= {tuple(box) for box in mine}
    assert len(several) > 3, "a net that tells phrases apart"


words = st.text("abc ", min_size=1, max_size=6).filter(lambda text: text.strip())
runs = st.lists(st.integers(0, 999), min_size=4, max_size=13)


@settings(max_examples=60)
@given(st.lists(st.tuples(words, runs), max_size=4), st.integers(1, 4000), st.integers(1, 4000))
def test_parse_places_of_any_answer_equals_transformers_processor(
    kept: Florence2Grounder, parts: list[tuple[str, list[int]]], width: int, height: int
) -> None:
    tokenizer = kept.model.tokenizer
    text = "".join(phrase + "".join(f"<loc_{place}>" for place in places) for phrase, places in parts)
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    mine = [bins for bins, _ in parse_places(Answer(tokens, [0.5] * len(tokens)), kept.model)]
    read = a_processor().post_processor(text=text, image_size=(1000, 1000), parse_tasks="description_with_bboxes")
    assert mine == [row["bbox"] for row in read["description_with_bboxes"]]
    for bins in mine:
        box = box_of(bins, width, height)
        assert (box is None) == (bins[0] >= bins[2] or bins[1] >= bins[3])
        if box is not None:
            assert 0 < box[0] < box[2] < width and 0 < box[1] < box[3] < height
            middles = [(place + 0.5) * side / 1000 for place, side in zip(bins, (width, height) * 2, strict=True)]
            assert list(box) == pytest.approx(middles)


def answered(model: Florence2, text: str, probability: float = 0.5) -> Answer:
    tokens = model.tokenizer(text, add_special_tokens=False)["input_ids"]
    return Answer(tokens, [probability] * len(tokens))


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("", []),
        ("a woman", []),
        ("<loc_1><loc_2><loc_3><loc_4>", [[1, 2, 3, 4]]),
        ("a<loc_1><loc_2><loc_3>", []),
        ("a<loc_1><loc_2><loc_3><loc_4><loc_5>b<loc_6><loc_7><loc_8><loc_9>", [[1, 2, 3, 4], [6, 7, 8, 9]]),
        ("a<poly><loc_5><loc_9><loc_1><loc_2><loc_7><loc_4></poly>", [[1, 2, 7, 9]]),
        ("a<poly><loc_5><loc_9><loc_1><loc_2><sep><loc_20><loc_30><loc_7></poly>", [[1, 2, 20, 30]]),
        ("a<poly><loc_5><loc_9></poly>", []),
    ],
)
def test_parse_places_returns_complete_boxes(kept: Florence2Grounder, text: str, places: list[list[int]]) -> None:
    found = parse_places(answered(kept.model, text), kept.model)
    assert [bins for bins, _ in found] == places
    assert all(score == pytest.approx(0.5) for _, score in found)


def test_parse_places_score_is_geometric_mean_of_location_tokens(kept: Florence2Grounder) -> None:
    answer = answered(kept.model, "a<loc_1><loc_2><loc_3><loc_4><loc_1><loc_2><loc_3><loc_5>")
    scored = Answer(answer.tokens, [0.01, 0.5, 0.5, 0.5, 0.5, 0.1, 0.4, 0.2, 0.2])
    assert [score for _, score in parse_places(scored, kept.model)] == pytest.approx([0.5, 0.0016**0.25])


def test_florence2_boxes_are_independent_of_batch(folder: Path, media: Media) -> None:
    queries = [a_query(f"name {i}", "x " * (i + 1)) for i in range(5)]
    alone = [a_tool(folder).run([a_request(query)], media)[0].groundings[0] for query in queries]
    assert len({grounded.boxes for grounded in alone}) > 1
    for batch in (2, 64):
        found = a_tool(folder, text_batch=batch).run([a_request(*queries)], media)[0]
        for one, other in zip(found.groundings, alone, strict=True):
            assert boxes_of(one) == boxes_of(other)
            assert [box.score for box in one.boxes] == pytest.approx([box.score for box in other.boxes], rel=1e-4)


def test_florence2_top_keeps_first_boxes(folder: Path, kept: Florence2Grounder, media: Media) -> None:
    every = kept.run([a_request(QUERIES[0])], media)[0].groundings[0].boxes
    assert len(every) > 2
    assert a_tool(folder, top=2).run([a_request(QUERIES[0])], media)[0].groundings[0].boxes == every[:2]


def test_florence2_prompt_reads_location_marks_in_post_as_letters(kept: Florence2Grounder) -> None:
    """Whoever writes locations, pictures or an end into a post puts nothing of the kind before the net."""
    ids, _ = kept._ids("a <loc_5><loc_5><loc_9><loc_9> </s> <image> <poly> b.", 5)
    assert ids == kept._ids("a b", 5)[0]
    assert not any(map(kept.model.is_bin, ids)) and ids.count(2) == 1 and 261 not in ids


def test_florence2_with_inverted_boxes_warns_w147(kept: Florence2Grounder, media: Media, monkeypatch: Any) -> None:
    text = "a<loc_9><loc_2><loc_3><loc_4><loc_1><loc_2><loc_3><loc_4><loc_1><loc_2><loc_1><loc_4>"
    monkeypatch.setattr(Florence2Grounder, "answers", lambda *_: [answered(kept.model, text)])
    found = kept.run([a_request(QUERIES[0])], media)[0]
    assert len(found.groundings[0].boxes) == 1
    assert [notice.code for notice in found.notices] == ["W147"] and "2 answers" in found.notices[0].message


def test_florence2_with_nan_score_raises_unavailable(kept: Florence2Grounder, media: Media, monkeypatch: Any) -> None:
    monkeypatch.setattr(Florence2Grounder, "answers", lambda *_: [answered(kept.model, "a<loc_1>", math.nan)])
    with pytest.raises(ToolUnavailable, match="not finite numbers"):
        kept.run([a_request(QUERIES[0])], media)


def test_florence2_on_full_memory_halves_batch(kept: Florence2Grounder, media: Media, monkeypatch: Any) -> None:
    whole = Florence2Grounder.answers

    def small(self: Florence2Grounder, seen: Tensor, texts: Any) -> list[Answer]:
        if len(texts) > 2:
            raise torch.OutOfMemoryError("full")
        return whole(self, seen, texts)

    monkeypatch.setattr(Florence2Grounder, "answers", small)
    found = kept.run([a_request(*QUERIES, *QUERIES)], media)[0]
    assert len(found.groundings) == 6 and "W144" in [notice.code for notice in found.notices]


@pytest.mark.parametrize("expansion", ["word " * 2000, "x" * 20000])
def test_florence2_with_long_expression_warns_w145(kept: Florence2Grounder, media: Media, expansion: str) -> None:
    found = kept.run([a_request(a_query("Ada", expansion))], media)[0]
    assert "W145" in [notice.code for notice in found.notices]
    ids, _ = kept._ids(expansion, 5)
    assert len(ids) + 5 <= 256 and ids[-len(" in the image.") - 1 :] == kept._ids("a", 5)[0][-15:]


@pytest.mark.parametrize("size", [(1, 1), (1, 4000), (3000, 2)])
def test_florence2_with_odd_picture_returns_boxes_inside(kept: Florence2Grounder, size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (200, 10, 30))
    ref = image_ref(image)
    found = kept.run([ground_request(ref, QUERIES[0])], Media(images={ref.sha256: image}))[0]
    for box in found.groundings[0].boxes:
        assert 0 <= box.box[0] < box.box[2] <= size[0] and 0 <= box.box[1] < box.box[3] <= size[1]


def test_florence2_without_queries_or_words_returns_none_or_raises(kept: Florence2Grounder, media: Media) -> None:
    assert kept.run([], media) == [] and kept.run([a_request()], media)[0].groundings == ()
    with pytest.raises(NamepinError, match="E109"):
        kept.run([a_request(ReferringQuery(text="?", label="PER", category="PER", expression="?!"))], media)
    with pytest.raises(NamepinError, match="E120"):
        kept.run([a_request(QUERIES[0])], Media())


def test_florence2_with_image_beyond_positions_raises_e217(folder: Path) -> None:
    with pytest.raises(NamepinError, match=r"E217.*352"):
        a_tool(folder, image_size=1600)


@pytest.mark.parametrize("damage", ["kind", "tensor", "words", "cut"])
def test_florence2_with_bad_weights_raises_coded_error(tmp_path: Path, damage: str) -> None:
    bad = save_florence2(tmp_path / "bad")
    if damage == "kind":
        described = json.loads((bad / "config.json").read_text())
        (bad / "config.json").write_text(json.dumps(described | {"model_type": "bart"}))
    elif damage == "tensor":
        from safetensors.torch import load_file, save_file

        tensors = load_file(bad / "model.safetensors")
        tensors.pop(next(key for key in tensors if "image_projection" in key))
        save_file(tensors, bad / "model.safetensors", metadata={"format": "pt"})
    elif damage == "words":
        from support.tiny_grounders import bert_words

        for file in bad.glob("tokenizer*"):
            file.unlink()
        bert_words().save_pretrained(bad)
    else:
        whole = (bad / "model.safetensors").read_bytes()
        (bad / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    code = {"kind": "E212", "tensor": "E212", "words": "E218", "cut": "E211"}[damage]
    with pytest.raises(NamepinError, match=code):
        a_tool(bad)


def test_florence2_fingerprint_depends_on_settings(folder: Path, kept: Florence2Grounder, tmp_path: Path) -> None:
    assert a_tool(folder, text_batch=1, device="cpu").fingerprint == kept.fingerprint
    for change in ({"phrase": "entity"}, {"beams": 2}, {"top": 1}, {"image_size": 96}):
        assert a_tool(folder, **change).fingerprint != kept.fingerprint
    assert a_tool(save_florence2(tmp_path / "other", seed=32)).fingerprint != kept.fingerprint
