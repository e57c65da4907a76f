"""Grounding by OFA: boxes and bins, beams as ranked boxes, sharing with entailment, answers that are no boxes."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from namepin.tools.entailment.config import OfaEntailmentConfig
from namepin.tools.entailment.ofa import OfaEntailment
from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.grounder.config import OfaGrounderConfig
from namepin.tools.grounder.ofa import OfaGrounder
from namepin.tools.images.tensors import squash
from namepin.tools.interfaces import Groundings, GroundRequest, ReferringQuery
from namepin.tools.media import Media
from namepin.tools.models.config import OfaConfig
from namepin.tools.models.ofa_boxes import bins_of, box_of
from namepin.tools.nets.ofa import Beams, continuations
from support import tiny_ofa
from support.tiny_blip import PICTURE, image_ref

REF = image_ref(PICTURE)
HALF = (0.5, 0.5, 0.5)


def a_query(name: str, expansion: str = "") -> ReferringQuery:
    return ReferringQuery(text=name, label="PER", category="PER", expression=f"{name} (PER) – {expansion}")


QUERIES = (a_query("Ada", "a woman"), a_query("NASA", "the space agency on the wall"), a_query("x", "y"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_ofa.save_folder(tiny_ofa.tiny_net(), tmp_path_factory.mktemp("ofa"))


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_tool(folder: Path, beams: int = 5, **settings: object) -> OfaGrounder:
    ofa = OfaConfig(weights=str(folder), **settings)  # type: ignore[arg-type]
    return OfaGrounder(OfaGrounderConfig(ofa=ofa, image_size=tiny_ofa.IMAGE_SIZE, beams=beams))


def a_request(*queries: ReferringQuery) -> GroundRequest:
    return GroundRequest(image=REF, text="a post", queries=queries)


sides = st.integers(1, 10000)


@given(sides, sides, st.tuples(*[st.floats(0, 1)] * 4))
def test_box_of_bins_errs_by_half_bin(width: int, height: int, parts: tuple[float, float, float, float]) -> None:
    box = (parts[0] * width, parts[1] * height, parts[2] * width, parts[3] * height)
    bins = bins_of(box, width, height)
    back = box_of(bins, width, height)
    if bins[0] >= bins[2] or bins[1] >= bins[3]:
        assert back is None
        return
    assert back is not None
    for before, after, side in zip(box, back, (width, height, width, height), strict=True):
        assert abs(before - after) <= side / 999 / 2 * (1 + 1e-9)
        assert 0 <= after <= side


@given(sides, sides, st.tuples(*[st.integers(0, 999)] * 4))
def test_bins_of_box_roundtrip_is_exact(width: int, height: int, bins: tuple[int, int, int, int]) -> None:
    box = box_of(bins, width, height)
    assert (box is None) == (bins[0] >= bins[2] or bins[1] >= bins[3])
    if box is not None:
        assert bins_of(box, width, height) == bins


def test_box_of_bins_equals_ofa_arithmetic() -> None:
    """`bin / 999 * 512`, divided by how much each axis was squashed; and the other way round."""
    width, height, bins = 640, 427, (100, 20, 999, 640)
    ratios = (512 / width, 512 / height)
    wanted = [place / 999 * 512 / ratios[axis % 2] for axis, place in enumerate(bins)]
    assert box_of(bins, width, height) == pytest.approx(wanted)
    squashed = [value * ratios[axis % 2] / 512 for axis, value in enumerate(wanted)]
    assert bins == tuple(round(value * 999) for value in squashed)


@pytest.mark.parametrize("bins", [(1, 2, 3), (1, 2, 3, 4, 5), (-1, 2, 3, 4), (0, 0, 1000, 5), ()])
def test_box_of_invalid_bins_raises_value_error(bins: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="four bins"):
        box_of(bins, 100, 100)


@pytest.mark.parametrize("box", [(-50.0, -1.0, 700.0, 900.0), (-1e9, 0.0, 1e9, 480.0)])
def test_bins_of_box_beyond_picture_are_clipped(box: tuple[float, float, float, float]) -> None:
    assert bins_of(box, 640, 480) == (0, 0, 999, 999)


def test_ofa_grounder_boxes_equal_ranked_beams(folder: Path, media: Media) -> None:
    """One query at a time, from the net's own search."""
    net, words = tiny_ofa.tiny_net(), tiny_ofa.tiny_words()
    pixels = squash(PICTURE, tiny_ofa.IMAGE_SIZE, HALF, HALF)[None]
    texts = ["ada (per) a woman", "nasa (per) the space agency on the wall", "x (per) y"]
    found = a_tool(folder, beams=20).run([a_request(*QUERIES)], media)[0]
    places = [words.bin_ids()] * 4 + [torch.tensor([2])]
    some = 0
    for text, grounded in zip(texts, found.groundings, strict=True):
        source = torch.tensor([[0, *words.ids(f' which region does the text " {text} " describe?'), 2]])
        with torch.no_grad():
            beams = continuations(net, net.encode(net.look(pixels), source, source == source), 0, places, 20)
        wanted = []
        for tokens, score in zip(beams.tokens[0].tolist(), beams.scores[0].tolist(), strict=True):
            box = box_of([token - words.first_bin for token in tokens[:4]], PICTURE.width, PICTURE.height)
            wanted += [(box, math.exp(score / 5))] if box else []
        assert [scored.box for scored in grounded.boxes] == [box for box, _ in wanted]
        assert [scored.score for scored in grounded.boxes] == pytest.approx([score for _, score in wanted], rel=1e-3)
        assert list(grounded.boxes) == sorted(grounded.boxes, key=lambda scored: -scored.score)
        some += len(wanted)
    assert 0 < some < 60
    assert [notice.code for notice in found.notices] == ["W147"]
    assert str(60 - some) in found.notices[0].message


def test_ofa_grounder_boxes_are_independent_of_batch(folder: Path, media: Media) -> None:
    queries = [a_query(f"name {i}", "x " * i) for i in range(9)]
    alone = [a_tool(folder).run([a_request(query)], media)[0].groundings[0] for query in queries]
    for batch in (1, 4, 64):
        found = a_tool(folder, text_batch=batch).run([a_request(*queries)], media)[0]
        assert [boxes(grounded) for grounded in found.groundings] == [boxes(grounded) for grounded in alone]


def boxes(grounded: object) -> list[object]:
    return [scored.box for scored in grounded.boxes]  # type: ignore[attr-defined]


def test_ofa_grounder_and_entailment_share_weights(folder: Path) -> None:
    grounder = a_tool(folder)
    entailment = OfaEntailment(OfaEntailmentConfig(ofa=grounder.config.ofa, image_size=48))
    assert entailment.ofa is grounder.ofa
    assert entailment.fingerprint != grounder.fingerprint


def test_ofa_grounder_without_queries_needs_no_picture(folder: Path) -> None:
    assert a_tool(folder).run([a_request()], Media()) == [Groundings(groundings=())]


def answers(*rows: list[int], score: float = -1.0) -> Beams:
    first = tiny_ofa.tiny_words().first_bin
    tokens = torch.tensor([[[*(first + bin_ for bin_ in row), 2] for row in rows]])
    return Beams(tokens, torch.full((1, len(rows)), score))


def test_ofa_grounder_with_invalid_beams_drops_them_with_w147(
    folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = ([500, 0, 100, 999], [10, 10, 10, 20], [0, 0, 999, 999], [5, 9, 7, 3])
    monkeypatch.setattr(OfaGrounder, "search", lambda self, memory: answers(*rows))
    found = a_tool(folder).run([a_request(QUERIES[0])], media)[0]
    assert boxes(found.groundings[0]) == [(0.0, 0.0, PICTURE.width, PICTURE.height)]
    assert found.groundings[0].boxes[0].score == pytest.approx(math.exp(-1 / 5))
    assert [notice.code for notice in found.notices] == ["W147"] and "3 answers" in found.notices[0].message


def test_ofa_grounder_nan_raises_unavailable(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OfaGrounder, "search", lambda self, memory: answers([0, 0, 1, 1], score=math.nan))
    with pytest.raises(ToolUnavailable):
        a_tool(folder).run([a_request(QUERIES[0])], media)


@pytest.mark.parametrize("expansion", ["word " * 2000, "x" * 20000])
def test_ofa_grounder_with_long_expression_truncates_it_with_w145(folder: Path, media: Media, expansion: str) -> None:
    found = a_tool(folder).run([a_request(a_query("Ada", expansion))], media)[0]
    assert "W145" in [notice.code for notice in found.notices]


def test_ofa_grounder_with_wordless_expression_raises_e109(folder: Path, media: Media) -> None:
    query = ReferringQuery(text="x", label="PER", category="PER", expression=" – ")
    with pytest.raises(NamepinError) as caught:
        a_tool(folder).run([a_request(query)], media)
    assert caught.value.code == "E109"


def test_ofa_grounder_fingerprint_depends_on_relevant_settings_only(folder: Path) -> None:
    assert a_tool(folder).fingerprint == a_tool(folder, text_batch=2).fingerprint
    assert a_tool(folder).fingerprint != a_tool(folder, beams=4).fingerprint
