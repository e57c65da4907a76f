"""SeqTR: the reference's numbers, words, boxes and outlines in pixels of the picture, bad answers, bad weights."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from namepin.tools.errors import NamepinError, ToolUnavailable
from namepin.tools.grounder.config import SeqtrGrounderConfig
from namepin.tools.grounder.seqtr import EncodedPicture, SeqtrGrounder, box_of, corners_of, prepare
from namepin.tools.interfaces import Groundings, GroundRequest, ReferringQuery
from namepin.tools.media import Media
from namepin.tools.models.seqtr_checkpoint import load_seqtr
from namepin.tools.models.seqtr_vocabulary import FILE, load_vocabulary, normalise_words, rows_of, vocabulary_of
from namepin.tools.nets.seqtr import Attention, Seqtr, SeqtrSizes, TokenSequences
from support import tiny_seqtr
from support.paths import GOLDEN
from support.tiny_blip import PICTURE, image_ref

GOLDEN_FILE = GOLDEN / "seqtr_tiny.npz"
REF = image_ref(PICTURE)
SIZES = {"box": tiny_seqtr.BOX, "mask": tiny_seqtr.MASK, "both": tiny_seqtr.BOTH}


def a_query(name: str, expansion: str = "a woman in orange") -> ReferringQuery:
    return ReferringQuery(text=name, label="PER", category="PER", expression=f"{name} (PER) – {expansion}")


QUERIES = (a_query("Ada"), a_query("Dog", "the flag on the left"), a_query("Suit", "an orange / a dog"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("seqtr")
    return {kind: tiny_seqtr.save(tiny_seqtr.tiny_net(sizes), folder, f"{kind}.pth") for kind, sizes in SIZES.items()}


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_tool(weights: Path, **settings: object) -> SeqtrGrounder:
    return SeqtrGrounder(SeqtrGrounderConfig(weights=str(weights), **{"image_size": 96, **settings}))


def a_request(*queries: ReferringQuery) -> GroundRequest:
    return GroundRequest(image=REF, text="a post", queries=queries)


def close(found: Tensor, wanted: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> None:
    assert np.abs(found.numpy() - wanted).max() <= 1e-9 * np.abs(wanted).max()


@pytest.mark.parametrize("kind", SIZES)
def test_seqtr_forward_equals_golden_arrays_of_reference(kind: str) -> None:
    """Arrays of the authors' own code, in float64: features, tokens, and the logits at each step."""
    golden = np.load(GOLDEN_FILE)
    net = tiny_seqtr.tiny_net(SIZES[kind]).double()
    ids = torch.from_numpy(golden["ids"])
    with torch.no_grad():
        picture = net.look(torch.from_numpy(golden["pixels"]).double())
        if kind == "box":
            fused = picture * net.lan_enc(ids).tanh()[..., None, None]
            close(fused, golden["fused"])
            close(net.head.transformer.encode(fused)[0], golden["encoder"])
        box, outline = net.write(net.read(picture, ids))
    logits, at = torch.from_numpy(golden[f"{kind}_logits"]), 0
    for name, written in (("bbox", box), ("mask", outline)):
        assert (written is not None) == (f"{kind}_{name}" in golden)
        if written is None:
            continue
        assert written.tokens.tolist() == golden[f"{kind}_{name}"].tolist()
        for step in range(written.tokens.shape[1]):
            endless = name == "bbox" or (kind == "both" and step < 4)
            chances = (logits[:, at + step, :-1] if endless else logits[:, at + step]).softmax(-1).amax(-1)
            close(written.probabilities[:, step], chances.numpy())
        at += 5


@pytest.mark.parametrize("kind", SIZES)
def test_seqtr_stepwise_decoding_equals_whole_pass(kind: str) -> None:
    """The decoder written out with torch's attention and a mask of the future, where ours keeps what it computed."""
    net, ids = tiny_seqtr.tiny_net(SIZES[kind], seed=3).double(), torch.tensor([[3, 4, 0, 0], [5, 1, 7, 8]])
    with torch.no_grad():
        pixels = torch.from_numpy(np.random.default_rng(0).random((1, 3, 64, 64)) * 255)
        transformer, picture = net.head.transformer, net.look(pixels)
        states, places = transformer.encode(picture * net.lan_enc(ids).tanh()[..., None, None])
        box, outline = net.write(transformer.remember(states, places))
        inputs = [net.head.task_embedding.weight[0].expand(2, 1, -1)] if kind == "both" else [torch.zeros(2, 1, 32)]
        for i, written in enumerate(part for part in (box, outline) if part):
            if i:
                inputs.append(net.head.task_embedding.weight[1].expand(2, 1, -1))
            inputs.append(transformer.query_embedding(written.tokens))
        x = torch.cat(inputs, 1).double()
        where = transformer.seq_positional_encoding.embedding.weight[: x.shape[1]]
        x = x[:, : len(where)]
        future = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        for layer in transformer.decoder.layers:
            own, other = torch_attention(layer.self_attn), torch_attention(layer.multihead_attn)  # type: ignore
            x = layer.norm1(x + own(x + where, x + where, x, attn_mask=future)[0])  # type: ignore
            x = layer.norm2(x + other(x + where, states + places, states)[0])  # type: ignore
            x = layer.norm3(x + layer.linear2(functional.relu(layer.linear1(x))))  # type: ignore
        logits = net.head.logits(transformer.decoder.norm(x))
    at = 0
    for written in (part for part in (box, outline) if part):
        chances = logits[:, at : at + written.tokens.shape[1]].softmax(-1).gather(2, written.tokens[..., None])[..., 0]
        free = written is outline and kind == "mask"  # elsewhere the end is left out of some sums
        assert torch.allclose(written.probabilities, chances, atol=0 if free else 0.2, rtol=1e-9)
        best = logits[:, at : at + written.tokens.shape[1], : None if free else -1].argmax(-1)
        steps = slice(4) if kind == "both" else slice(None)
        assert torch.equal(written.tokens[:, steps], best[:, steps])
        at += 5


def torch_attention(ours: Attention) -> nn.MultiheadAttention:
    width = ours.out_proj.in_features
    theirs = nn.MultiheadAttention(width, 8, batch_first=True).double()
    theirs.load_state_dict(ours.state_dict())
    return theirs.eval()


def test_seqtr_state_dict_has_published_tensor_count() -> None:
    """521 tensors, as in the authors' configurations; one more where one net does both tasks."""
    with torch.device("meta"):
        counts = [len(Seqtr(SeqtrSizes(positions=places, tasks=places == 42)).state_dict()) for places in (5, 37, 42)]
    assert counts == [521, 521, 522]
    assert [SeqtrSizes(positions=5).corners, SeqtrSizes(positions=37).corners] == [0, 18]
    assert SeqtrSizes(positions=42, tasks=True).corners == 18


def test_normalise_words_and_vocabulary_equal_reference() -> None:
    assert normalise_words("The U.S. man's (left) T-shirt/cap!") == ["the", "us", "mans", "left", "t", "shirt", "cap"]
    assert list(tiny_seqtr.WORDS)[:6] == ["PAD", "UNK", "CLS", "a", "woman", "in"]
    assert vocabulary_of({"train": [{"expressions": ["a a b"]}]}) == {"PAD": 0, "UNK": 1, "CLS": 2, "a": 3, "b": 4}
    assert rows_of(["woman", "xyz"], tiny_seqtr.WORDS, 4) == [4, 1, 0, 0]
    assert rows_of(["woman", "a", "in"], tiny_seqtr.WORDS, 2) == [4, 3]


@pytest.mark.parametrize(
    "words", [{}, {"PAD": 0, "a": 1}, {"PAD": 1, "UNK": 0}, {"PAD": 0, "UNK": 5}, {"PAD": 0, "UNK": True}, None]
)
def test_load_vocabulary_with_misfit_words_raises_e218(words: dict[str, int] | None, tmp_path: Path) -> None:
    if words is not None:
        (tmp_path / FILE).write_text(json.dumps(words))
    with pytest.raises(NamepinError, match="E218"):
        load_vocabulary(tmp_path / FILE, 2)


def test_prepare_scales_and_pads_picture() -> None:
    pixels = np.full((427, 640, 3), 200, dtype=np.uint8)
    tensor, width, height = prepare(pixels, 640)
    assert tensor.shape == (3, 448, 640) and (width, height) == (640, 448)
    assert tensor[:, :427].eq(200).all() and tensor[:, 427:].eq(0).all()
    tensor, width, height = prepare(np.full((300, 200, 3), 9, dtype=np.uint8), 640)
    assert tensor.shape == (3, 640, 448) and height == 300 and width == pytest.approx(448 * 200 / 427)
    assert prepare(np.zeros((3, 4000, 3), dtype=np.uint8), 640)[0].shape == (3, 32, 640)


@given(st.integers(20, 3000), st.integers(20, 3000), st.tuples(*[st.integers(0, 999)] * 4))
def test_box_of_tokens_lies_in_picture_or_is_none(wide: int, high: int, tokens: tuple[int, int, int, int]) -> None:
    seen = EncodedPicture(torch.zeros(0), wide * 1.05, float(high))
    box = box_of(tokens, seen, 1000, (wide, high))
    left, top, right, bottom = tokens
    if left >= right or top >= bottom or left * (seen.width / 1000) >= wide:
        assert box is None
        return
    x, y = seen.width / 1000, high / 1000
    assert box == pytest.approx((left * x, top * y, min(right * x, wide), bottom * y))
    assert box is not None and box[2] <= wide


def test_corners_of_tokens_end_at_end_token() -> None:
    seen = EncodedPicture(torch.zeros(0), 100.0, 50.0)
    assert corners_of([0, 10, 20, 39, 40, 5], seen, 40) == [(0, 12.5), (50, 48.75)]
    assert corners_of([0, 10, 20, 40, 3], seen, 40) == [(0, 12.5)]
    assert corners_of([40, 1, 2], seen, 40) == []
    assert len(corners_of([1] * 13, seen, 40)) == 6


@pytest.mark.parametrize("kind", SIZES)
def test_seqtr_grounder_answers_are_independent_of_batch(kind: str, weights: dict[str, Path], media: Media) -> None:
    alone = [a_tool(weights[kind]).run([a_request(query)], media)[0].groundings[0] for query in QUERIES]
    for batch in (1, 2, 8):
        found = a_tool(weights[kind], text_batch=batch).run([a_request(*QUERIES)], media)[0].groundings
        assert [[scored.box for scored in one.boxes] for one in found] == [[s.box for s in one.boxes] for one in alone]
        assert [one.mask for one in found] == [one.mask for one in alone]


def test_seqtr_encodes_picture_once(weights: dict[str, Path], media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Tensor] = []
    look = Seqtr.look

    def counted(self: Seqtr, pixels: Tensor) -> Tensor:
        looks.append(pixels)
        return look(self, pixels)

    monkeypatch.setattr(Seqtr, "look", counted)
    tool = a_tool(weights["box"], text_batch=1)
    tool.run([a_request(*QUERIES), a_request(QUERIES[0])], media)
    assert [pixels.shape for pixels in looks] == [(1, 3, 64, 96)]


def answers(monkeypatch: pytest.MonkeyPatch, box: list[int] | None, outline: list[int] | None, p: float = 0.25) -> None:
    def written(tokens: list[int] | None) -> TokenSequences | None:
        return TokenSequences(torch.tensor([tokens]), torch.full((1, len(tokens)), p)) if tokens else None

    monkeypatch.setattr(Seqtr, "write", lambda self, memory: (written(box), written(outline)))


SQUARE = [5, 5, 15, 5, 15, 15, 5, 15, 40, 0, 0, 0, 0]


def test_seqtr_grounder_outline_becomes_mask_and_tight_box(
    weights: dict[str, Path], media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, None, SQUARE)
    found = a_tool(weights["mask"]).run([a_request(QUERIES[0])], media)[0]
    mask, (scored,) = found.groundings[0].mask, found.groundings[0].boxes
    assert mask is not None and mask.size == (30, 50) and scored.box == mask.tight_box()
    # The picture of 50 x 30 became 96 x 58 in 96 x 64, cut into 40 bins an axis.
    corners = (5 / 40 * 50, 5 / 40 * 64 * 30 / 58, 15 / 40 * 50, 15 / 40 * 64 * 30 / 58)
    assert scored.box == pytest.approx(corners, abs=1) and scored.score == pytest.approx(0.25)
    alone = a_tool(weights["mask"], task="box").run([a_request(QUERIES[0])], media)[0].groundings[0]
    assert alone.mask is None and alone.boxes == found.groundings[0].boxes


def test_seqtr_grounder_with_both_tasks_keeps_written_box(
    weights: dict[str, Path], media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, [0, 0, 20, 20], SQUARE)
    found = a_tool(weights["both"], task="mask").run([a_request(QUERIES[0])], media)[0].groundings[0]
    assert found.boxes[0].box[:3] == (0, 0, 25) and found.mask is not None
    assert a_tool(weights["both"], task="box").run([a_request(QUERIES[0])], media)[0].groundings[0].mask is None


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        ("box", [20, 0, 10, 30]),
        ("box", [10, 10, 10, 20]),
        ("box", [5, 38, 20, 39]),  # in what the picture was filled up with
        ("mask", [40] + [1] * 12),
        ("mask", [5, 5, 15, 15, 40] + [1] * 8),
        ("mask", [7] * 13),
        ("mask", [0, 39, 39, 39, 20, 39] + [40] * 7),
    ],
)
def test_seqtr_grounder_with_degenerate_answer_returns_none_with_w147(
    kind: str, tokens: list[int], weights: dict[str, Path], media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, tokens if kind == "box" else None, tokens if kind == "mask" else None)
    found = a_tool(weights[kind]).run([a_request(QUERIES[0])], media)[0]
    assert found.groundings[0].boxes == () and found.groundings[0].mask is None
    assert [notice.code for notice in found.notices] == ["W147"]


@pytest.mark.parametrize("kind", ["box", "mask"])
def test_seqtr_grounder_with_nan_probability_raises_tool_unavailable(
    kind: str, weights: dict[str, Path], media: Media, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [0, 0, 9, 9]
    answers(monkeypatch, tokens if kind == "box" else None, tokens if kind == "mask" else None, math.nan)
    with pytest.raises(ToolUnavailable):
        a_tool(weights[kind]).run([a_request(QUERIES[0])], media)


def test_seqtr_grounder_with_long_or_unknown_words_warns_w145_or_w148(weights: dict[str, Path], media: Media) -> None:
    queries = (a_query("Ada", "woman " * 500), a_query("Xyzzy", "qwertz"))
    found = a_tool(weights["box"]).run([a_request(*queries)], media)[0]
    said = {notice.code: notice.message for notice in found.notices}
    assert said.keys() - {"W147"} == {"W145"} and "of 1 expressions" in said["W145"]  # "per" is a word it knows
    query = ReferringQuery(text="x", label="PER", category="PER", expression="qwertz")
    assert "W148" in [notice.code for notice in a_tool(weights["box"]).run([a_request(query)], media)[0].notices]


def test_seqtr_sentence_padding_changes_encoding_and_fingerprint(weights: dict[str, Path]) -> None:
    """The GRU reads backwards from the last place, filled or not, so weights want the number they were trained with."""
    net = tiny_seqtr.tiny_net()
    short, long = torch.tensor([[3, 4, 5]]), torch.tensor([[3, 4, 5, 0, 0]])
    assert not torch.allclose(net.lan_enc(short), net.lan_enc(long), atol=1e-3)
    assert a_tool(weights["box"], max_words=15).fingerprint != a_tool(weights["box"]).fingerprint
    assert a_tool(weights["box"], text_batch=1).fingerprint == a_tool(weights["box"]).fingerprint


def test_seqtr_grounder_without_queries_needs_no_picture(weights: dict[str, Path]) -> None:
    assert a_tool(weights["box"]).run([a_request()], Media()) == [Groundings(groundings=())]


def test_seqtr_grounder_with_unsupported_request_raises_coded_error(weights: dict[str, Path], media: Media) -> None:
    with pytest.raises(NamepinError, match="E217.*boxes, not masks"):
        a_tool(weights["box"], task="mask")
    query = ReferringQuery(text="x", label="PER", category="PER", expression=" – ")
    with pytest.raises(NamepinError, match="E109"):
        a_tool(weights["box"]).run([a_request(query)], media)
    with pytest.raises(NamepinError, match="E120"):
        a_tool(weights["box"]).run([a_request(QUERIES[0])], Media())


def test_load_seqtr_takes_moving_average_when_present(tmp_path: Path) -> None:
    plain, average = tiny_seqtr.tiny_net(), tiny_seqtr.tiny_net(seed=1)
    path = tiny_seqtr.save(plain, tmp_path, average=average)
    for wanted, flag in ((average, True), (plain, False)):
        found = load_seqtr(path, "x", vocabulary=None, average=flag)
        assert torch.equal(found.net.get_parameter("lan_enc.embedding.weight"), wanted.lan_enc.embedding.weight)
    assert a_tool(path).fingerprint != a_tool(path, average=False).fingerprint
    assert load_seqtr(path, "x", vocabulary=None, average=True).net.sizes == tiny_seqtr.BOX


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def _file(changes: dict[str, object] | None = None, sizes: SeqtrSizes = tiny_seqtr.BOX) -> bytes:
    state = {**tiny_seqtr.tiny_net(sizes).state_dict(), **(changes or {})}
    buffer = io.BytesIO()
    torch.save({"state_dict": {key: value for key, value in state.items() if value is not None}}, buffer)
    return buffer.getvalue()


BIAS = "head.predictor.2.fc.bias"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "E211"),
        (_file()[:5000], "E211"),
        (_file({BIAS: torch.full((41,), float("nan"))}), "E211"),
        (_file({BIAS: None}), "E212"),
        (_file({"lan_enc.embedding.weight": None}), "E212"),
        (_file({"strange.weight": torch.zeros(2)}), "E212"),
        (_file({BIAS: torch.zeros(40)}), "E212"),
        (_file(sizes=replace(tiny_seqtr.BOX, positions=6)), "E212"),
        (_file({BIAS: _Code()}), "E214"),
    ],
)
def test_seqtr_with_bad_checkpoint_raises_coded_error_and_runs_no_code(
    data: bytes, code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "det_best.pth").write_bytes(data)
    (tmp_path / FILE).write_text(json.dumps(tiny_seqtr.WORDS))
    with pytest.raises(NamepinError) as caught:
        a_tool(tmp_path / "det_best.pth")
    assert caught.value.code == code
    assert "must not run" not in capsys.readouterr().out
