"""SEEM: the nets against plain loops and golden arrays, prompts in batches and alone, the checkpoint, the segmenter."""

import io
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import Query, Segments
from namepin.tools.media import Media
from namepin.tools.models.config import SeemConfig
from namepin.tools.models.seem import Ask, pad_size, scale_size, stroke
from namepin.tools.nets.seem import Features, Seem
from namepin.tools.nets.seem.decoder import _outside, _who_sees_whom
from namepin.tools.nets.seem.focal import Modulation
from namepin.tools.nets.seem.layers import sample, sine_positions
from namepin.tools.nets.seem.net import spread_points
from namepin.tools.segmenter.config import SeemSegmenterConfig
from namepin.tools.segmenter.prompts import category_words
from namepin.tools.segmenter.seem import SeemSegmenter
from support import tiny_seem
from support.paths import GOLDEN
from support.tiny_sam import PICTURE, image_ref, prompt, request

GOLDEN_FILE = GOLDEN / "seem_tiny.npz"
REF = image_ref(PICTURE)
IDS = torch.tensor([[72, 3, 40, 73], [72, 9, 51, 73]])
POINTS = torch.tensor([[[0.25, 0.5], [0.3, 0.5]], [[0.0, 0.0], [0.9, 0.75]]])


@pytest.fixture(scope="module")
def net() -> Seem:
    return tiny_seem.tiny_net()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, net: Seem) -> tuple[Path, Path]:
    return tiny_seem.save(net, tmp_path_factory.mktemp("seem"))


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_segmenter(saved: tuple[Path, Path], **settings: object) -> SeemSegmenter:
    given = {"weights": str(saved[0]), "tokenizer": str(saved[1]), "short_side": 32, "long_side": 64} | settings
    return SeemSegmenter(SeemSegmenterConfig(seem=SeemConfig(**given)))  # type: ignore[arg-type]


def some_pixels(seed: int = 3) -> Tensor:
    noise = np.random.default_rng(seed).standard_normal((1, 3, 64, 96))
    return torch.from_numpy(noise.astype(np.float32))


@torch.no_grad()
def test_focal_modulation_equals_plain_loop(net: Seem) -> None:
    """Focal modulation written out for one place: each level's gate times its context, and the global one."""
    layer = net.backbone.get_submodule("layers.0.blocks.0.modulation")
    assert isinstance(layer, Modulation)
    x = torch.randn(1, 5, 4, 8, generator=torch.Generator().manual_seed(0))
    projected = layer.f(x)[0]
    query, context, gates = projected[..., :8], projected[..., 8:16], projected[..., 16:]
    gathered = torch.zeros(5, 4, 8)
    for level in range(2):
        kernel = layer.focal_layers[level].get_parameter("0.weight")
        reach, wider = kernel.shape[-1] // 2, torch.zeros(5, 4, 8)
        for i in range(5):
            for j in range(4):
                for k in range(-reach, reach + 1):
                    for m in range(-reach, reach + 1):
                        if 0 <= i + k < 5 and 0 <= j + m < 4:
                            wider[i, j] += kernel[:, 0, k + reach, m + reach] * context[i + k, j + m]
        context = torch.nn.functional.gelu(wider)
        gathered += gates[..., level : level + 1] * context
    gathered += gates[..., 2:] * torch.nn.functional.gelu(context.mean(dim=(0, 1)))
    mixed = gathered / 3 @ layer.h.weight[:, :, 0, 0].T + layer.h.bias
    assert torch.allclose(layer(x)[0], layer.proj(query * mixed), atol=1e-5)


def test_sine_positions_equal_formula() -> None:
    found = sine_positions(3, 5, 8, torch.zeros(1))[0].reshape(3, 5, 8)
    for row in range(3):
        for column in range(5):
            y, x = 2 * math.pi * (row + 1) / (3 + 1e-6), 2 * math.pi * (column + 1) / (5 + 1e-6)
            expected = [f(v / w) for v in (y, x) for w in (1.0, 100.0) for f in (math.sin, math.cos)]
            assert found[row, column].tolist() == pytest.approx(expected, abs=1e-5)


def test_sample_interpolates_between_cell_centres() -> None:
    grid = torch.arange(12.0).reshape(1, 1, 3, 4)
    points = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [0.5, 0.5], [1 / 3, 0.0]]])
    assert sample(grid, points)[0, :, 0].tolist() == pytest.approx([0, 11, 5.5, 1], abs=1e-5)


def test_decoder_mask_blocks_outside_mask_or_nothing_when_empty() -> None:
    masks = torch.tensor([[[[3.0, -2.0], [-1.0, 4.0]], [[-1.0, -1.0], [-1.0, -1.0]]]])
    blocked = _outside(masks, torch.Size((2, 2)))
    assert blocked.tolist() == [[[False, True, True, False], [False] * 4]]


def test_decoder_attention_mask_separates_words_and_points() -> None:
    """Queries see all; words see queries and words; points see points."""
    sees = [["q", "w", "p"], ["q", "w"], ["p"]]
    kinds = ["q", "q", "w", "p", "p"]
    expected = [[other not in sees["qwp".index(kind)] for other in kinds] for kind in kinds]
    assert _who_sees_whom((2, 1, 2), torch.device("cpu")).tolist() == expected


def test_spread_points_selects_evenly_and_deterministically() -> None:
    points = torch.arange(20).reshape(10, 2)
    assert torch.equal(spread_points(points, 10), points)
    assert spread_points(points, 4)[:, 0].tolist() == [0, 4, 10, 14]
    assert len(spread_points(torch.zeros(513, 2), 512)) == 512


@torch.no_grad()
@pytest.mark.parametrize("given", ["points", "words", "both"])
def test_seem_prompts_in_batch_equal_single_prompts(net: Seem, given: str) -> None:
    features = net.encode(some_pixels())

    def ask(rows: slice) -> tuple[Tensor, ...]:
        words = None if given == "points" else net.read(IDS[rows])
        found = net(features, None if given == "words" else POINTS[rows], words)
        return found.masks, found.mask_embeds, found.class_embeds

    for i in range(2):
        for together, alone in zip(ask(slice(None)), ask(slice(i, i + 1)), strict=True):
            assert torch.allclose(together[i], alone[0], atol=1e-4 * float(alone.abs().max()))


@torch.no_grad()
def test_seem_masks_depend_on_both_prompts(net: Seem) -> None:
    features = net.encode(some_pixels())
    both = net(features, POINTS[:1], net.read(IDS[:1])).masks
    for other in (
        net(features, POINTS[1:], net.read(IDS[:1])).masks,
        net(features, POINTS[:1], net.read(IDS[1:])).masks,
        net(features, None, net.read(IDS[:1])).masks,
        net(features, POINTS[:1], None).masks,
    ):
        assert (both - other).abs().max() > 1e-3 * both.abs().max()


@torch.no_grad()
def test_seem_text_encoding_is_independent_of_later_tokens(net: Seem) -> None:
    longer = torch.cat((IDS, torch.tensor([[73], [73]])), dim=1)
    assert torch.allclose(net.read(IDS).whole, net.read(longer).tokens[:, 3], atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("backbone", tiny_seem.BACKBONES)
def test_seem_masks_and_classes_equal_golden_arrays(backbone: str) -> None:
    """Made by this net once it had been compared to the authors' code (docs/parity.md)."""
    net, golden = tiny_seem.tiny_net(backbone), np.load(GOLDEN_FILE)
    features, words = net.encode(some_pixels()), net.read(IDS)
    found = net(features, POINTS, words)
    arrays = {
        "levels": features.levels[1][:, ::16],
        "masks": found.masks[:, :, ::5, ::7],
        "classes": net.class_logits(found, words.whole),
    }
    for name, array in arrays.items():
        expected = golden[f"{backbone}_{name}"]
        assert np.abs(array.numpy() - expected).max() <= 1e-4 * np.abs(expected).max(), name


@pytest.mark.parametrize(
    ("size", "small"),
    [((640, 480), (682, 512)), ((480, 640), (512, 682)), ((1600, 100), (1024, 64)), ((1, 1), (512, 512)),
     ((3, 9000), (1, 1024)), ((1024, 512), (1024, 512))],
)  # fmt: skip
def test_scale_size_fits_short_and_long_side(size: tuple[int, int], small: tuple[int, int]) -> None:
    assert scale_size(size, 512, 1024) == small
    assert pad_size(small) == (math.ceil(small[0] / 32) * 32, math.ceil(small[1] / 32) * 32)


@pytest.mark.parametrize(
    ("point", "box", "count"),
    [((20, 20), None, 9), ((0, 0), None, 4), ((99, 49), None, 4), ((50, 0), None, 6),
     (None, (10.0, 10.0, 20.0, 15.0), 50), (None, (3.2, 3.2, 3.3, 3.3), 1), (None, (0.0, 0.0, 100.0, 50.0), 512)],
)  # fmt: skip
def test_stroke_returns_pixels_inside(point: tuple[int, int] | None, box: tuple[float, ...] | None, count: int) -> None:
    pixels = stroke(point, box, (100, 50), (100, 50))  # type: ignore[arg-type]
    assert pixels.shape == (count, 2)
    assert (pixels >= 0).all() and (pixels[:, 0] < 100 / 128).all() and (pixels[:, 1] < 50 / 64).all()
    if count == 9:
        assert (pixels.mean(dim=0) * torch.tensor([128, 64])).tolist() == pytest.approx([20, 20])


def test_seem_segmenter_mask_equals_hand_written_pass(saved: tuple[Path, Path], media: Media, net: Seem) -> None:
    """Point and word asked by hand, every step of the picture written out."""
    found = a_segmenter(saved).run([request(prompt((12, 20)))], media)[0].segments[0]
    small = np.asarray(PICTURE.resize((53, 32), Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = torch.zeros(1, 3, 32, 64)
    mean, std = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
    pixels[0, :, :, :53] = ((torch.from_numpy(small) - mean) / std).permute(2, 0, 1)
    x, y = int(12.5 * 53 / 50), int(20.5 * 32 / 30)
    points = torch.tensor([[[i / 64, j / 32] for j in (y - 1, y, y + 1) for i in (x - 1, x, x + 1)]])
    letters = [tiny_seem.VOCABULARY.index(piece) for piece in ["<|startoftext|>", *"athlet", "e</w>", "<|endoftext|>"]]
    with torch.no_grad():
        answer = net(net.encode(pixels), points, net.read(torch.tensor([letters])))
        best = max(range(7), key=lambda q: float(answer.mask_embeds[0, q] @ answer.points[0]))
        square = torch.nn.functional.interpolate(answer.masks[:, best : best + 1], (32, 64), mode="bilinear")
        logits = torch.nn.functional.interpolate(square[..., :53], (30, 50), mode="bilinear")[0, 0]
    assert found.mask is not None and 0 < found.mask.to_array().mean() < 1
    assert (found.mask.to_array() == (logits > 0).numpy()).all()
    assert found.box == found.mask.tight_box()
    assert found.score == pytest.approx(float(logits[logits > 0].sigmoid().mean()), rel=1e-4)


def test_seem_segmenter_with_mixed_prompts_equals_single_prompts(saved: tuple[Path, Path], media: Media) -> None:
    prompts = [prompt((12, 20)), prompt(box=(4.0, 3.0, 40.0, 28.0)), prompt((0, 0)), prompt(), prompt((30, 10))]
    together = a_segmenter(saved, prompt_batch=2).run([request(*prompts)], media)[0]
    for one, segment in zip(prompts, together.segments, strict=True):
        alone = a_segmenter(saved, cached_pictures=0).run([request(one)], media)[0].segments[0]
        assert segment.mask == alone.mask and (segment.score or 0) == pytest.approx(alone.score or 0, rel=1e-4)


def test_seem_encodes_picture_once(saved: tuple[Path, Path], media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    encode = Seem.encode

    def counted(self: Seem, pixels: Tensor) -> Features:
        seen.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(Seem, "encode", counted)
    a_segmenter(saved, cached_pictures=1).run([request(prompt((1, 1)), prompt((9, 9))), request(prompt((5, 5)))], media)
    assert seen == [1]


def test_seem_segmenter_without_prompts_needs_no_picture(saved: tuple[Path, Path]) -> None:
    assert a_segmenter(saved).run([request()], Media()) == [Segments(segments=())]
    with pytest.raises(NamepinError, match="E120"):
        a_segmenter(saved).run([request(prompt((1, 1)))], Media())


@pytest.mark.parametrize(
    "image",
    [Image.new("RGB", (64, 64)), Image.new("RGB", (1600, 100), "white"), Image.new("RGB", (1, 1)), PICTURE],
    ids=["all black", "16:1 panorama", "one pixel", "noise"],
)
def test_seem_segmenter_with_odd_pictures_returns_valid_masks(saved: tuple[Path, Path], image: Image.Image) -> None:
    width, height = image.size
    points = [(0, 0), (width - 1, height - 1), (width, height), (-5, 2 * height)]
    asked = request(*map(prompt, points), prompt(box=(-9.0, -9.0, width + 9.0, height + 9.0)), image=image)
    found = a_segmenter(saved).run([asked], Media(images={REF.sha256: image}))[0]
    for segment in found.segments:
        assert segment.score is None or 0.5 <= segment.score <= 1
        assert segment.mask is None or segment.mask.size == (height, width)
    assert found.segments[1].mask == found.segments[2].mask
    assert len(found.notices) == sum(segment.mask is None for segment in found.segments)


def test_seem_token_ids_of_long_text_keep_end_token(saved: tuple[Path, Path]) -> None:
    seem = a_segmenter(saved).seem
    ids = seem.token_ids("abcdefghijklmnopqrst")
    assert len(ids) == 12 and ids[0] == 72 and ids[-1] == 73
    small = seem.token_ids("ab")
    assert small == [72, 0, 36 + 1, 73]


@pytest.mark.parametrize(
    ("label", "category", "words"),
    [("PER", "PER", "person"), ("LOC", "LOC", "place"), ("ORG", "sports_team", "sports team"),
     ("PER", "person_other", "person"), ("LOC", "building_other", "building"), ("OTHER", "art_other", "art")],
)  # fmt: skip
def test_category_words_returns_plain_words_of_type(label: str, category: str, words: str) -> None:
    assert category_words(Query(text="x", label=label, category=category)) == words


def test_seem_segmenter_fingerprint_depends_on_weights_and_settings(saved: tuple[Path, Path], tmp_path: Path) -> None:
    base = a_segmenter(saved).fingerprint
    assert a_segmenter(saved, prompt_batch=1, cached_pictures=3).fingerprint == base
    other = tiny_seem.save(tiny_seem.tiny_net(seed=1), tmp_path)
    assert len({base, a_segmenter(saved, short_side=64).fingerprint, a_segmenter(other).fingerprint}) == 3


@pytest.mark.parametrize("backbone", tiny_seem.BACKBONES)
def test_seem_checkpoint_of_every_backbone_loads_equal_weights(backbone: str, tmp_path: Path) -> None:
    net = tiny_seem.tiny_net(backbone)
    loaded = a_segmenter(tiny_seem.save(net, tmp_path)).seem._net.state_dict()
    for name, value in net.state_dict().items():
        assert torch.equal(loaded[name], value)


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def _bytes(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _changed(**changes: object) -> bytes:
    state = {**tiny_seem.published_state(tiny_seem.tiny_net()), **changes}
    return _bytes({name: value for name, value in state.items() if value is not None})


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (pickle.dumps({"backbone.norm0.weight": _Code()}, protocol=2), "E214"),
        (_bytes({"backbone.norm0.weight": _Code()}), "E214"),
        (_changed(extra=torch.zeros(1)), "E212"),
        (_changed(**{"backbone.norm0.weight": None}), "E212"),
        (_changed(**{"backbone.norm0.weight": torch.zeros(3)}), "E212"),
        (_changed(**{"sem_seg_head.predictor.query_feat.weight": None}), "E212"),
        (_bytes({"mask_decoder.iou_token.weight": torch.zeros(1)}), "E212"),
        (_changed()[:5000], "E211"),
        (b"", "E211"),
    ],
    ids=["code", "code again", "a name too many", "no norm", "a shape", "no queries", "SAM", "truncated", "empty"],
)
def test_seem_with_bad_checkpoint_raises_coded_error_and_runs_no_code(
    tmp_path: Path, saved: tuple[Path, Path], data: bytes, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pt").write_bytes(data)
    with pytest.raises(NamepinError) as raised:
        a_segmenter((tmp_path / "x.pt", saved[1]))
    assert raised.value.code == code
    assert "must not run" not in capsys.readouterr().out


def test_seem_with_missing_weights_raises_e210_with_download_command(saved: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(NamepinError, match="E210.*namepin pull seem_focall_v0.pt"):
        a_segmenter((tmp_path / "seem_focall_v0.pt", saved[1]))
    with pytest.raises(NamepinError, match="E218"):
        a_segmenter((saved[0], tmp_path))


def test_seem_answers_to_words_alone_differ_by_word(saved: tuple[Path, Path], media: Media) -> None:
    seem = a_segmenter(saved).seem
    features = seem.features(REF, media)
    first, second = seem.answers(features, PICTURE.size, [Ask(None, None, "actor"), Ask(None, None, "river")])
    assert not torch.equal(first.logits, second.logits)
