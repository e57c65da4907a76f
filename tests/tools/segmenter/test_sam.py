"""SAM: masks against transformers and a plain loop, both checkpoint forms, odd prompts and pictures, bad weights."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from namepin.tools.errors import NamepinError
from namepin.tools.interfaces import Segments
from namepin.tools.media import Media
from namepin.tools.models.config import SamConfig
from namepin.tools.models.sam import Sam, fit, fit_size, unfit
from namepin.tools.segmenter.config import SamSegmenterConfig
from namepin.tools.segmenter.prompts import stability
from namepin.tools.segmenter.sam import SamSegmenter, without_specks
from support import tiny_sam
from support.paths import GOLDEN
from support.tiny_sam import PICTURE, image_ref, prompt, request

REF = image_ref(PICTURE)
POINT, BOX = (12, 20), (4.0, 3.0, 40.0, 28.0)
GOLDEN_FILE = GOLDEN / "sam_tiny.npz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_sam.save_folder(tiny_sam.tiny_net(), tmp_path_factory.mktemp("sam"))


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_segmenter(weights: Path, **settings: object) -> SamSegmenter:
    return SamSegmenter(SamSegmenterConfig(sam=SamConfig(weights=str(weights), **settings)))  # type: ignore[arg-type]


def by_hand(point: tuple[int, int] | None, box: tuple[float, ...] | None) -> tuple[Tensor, Tensor]:
    """Masks at the picture's size and their scores from transformers' net, every step written out."""
    scaled = PICTURE.resize((64, 38), Image.Resampling.BILINEAR)
    pixels = (torch.from_numpy(np.array(scaled)).float() - torch.tensor([123.675, 116.28, 103.53])) / torch.tensor(
        [58.395, 57.12, 57.375]
    )
    square = torch.zeros(1, 3, 64, 64)
    square[0, :, :38] = pixels.permute(2, 0, 1)
    along = torch.tensor([64 / 50, 38 / 30])
    with torch.no_grad():
        output = tiny_sam.tiny_net()(
            pixel_values=square,
            input_points=None if point is None else (torch.tensor(point) * along)[None, None, None],
            input_boxes=None if box is None else (torch.tensor(box) * along.repeat(2))[None, None],
            multimask_output=box is None,
        )
        large = torch.nn.functional.interpolate(output.pred_masks[0], (64, 64), mode="bilinear")
        masks = torch.nn.functional.interpolate(large[..., :38, :], (30, 50), mode="bilinear")[0]
    return masks, output.iou_scores[0, 0]


@pytest.mark.parametrize(("point", "box"), [(POINT, None), (None, BOX), (POINT, BOX)], ids=["point", "box", "both"])
def test_sam_segmenter_mask_equals_transformers(
    folder: Path, media: Media, point: tuple[int, int] | None, box: tuple[float, float, float, float] | None
) -> None:
    masks, scores = by_hand(point, box)
    assert len(masks) == (3 if box is None else 1)
    segment = a_segmenter(folder).run([request(prompt(point, box))], media)[0].segments[0]
    best = int(scores.argmax())
    assert segment.mask is not None and 0 < segment.mask.to_array().mean() < 1
    assert (segment.mask.to_array() == (masks[best] > 0).numpy()).all()
    assert segment.box == segment.mask.tight_box()
    assert segment.score == pytest.approx(float(scores[best]), rel=1e-5)


def test_sam_logits_and_scores_equal_golden_arrays(folder: Path, media: Media) -> None:
    """Made by `Sam` once it had been compared to segment-anything (docs/parity.md)."""
    sam = a_segmenter(folder).sam
    golden, embedding = np.load(GOLDEN_FILE), sam.embedding(REF, media)
    for kind, points, boxes in (("point", [POINT], None), ("box", None, [BOX]), ("both", [POINT], [BOX])):
        found = sam.candidates(embedding, PICTURE.size, points, boxes)[0]
        logits = unfit(found.logits, PICTURE.size, sam.side).numpy()
        assert np.abs(logits[:, ::5, ::7] - golden[kind]).max() < 1e-4 * np.abs(golden[kind]).max()
        assert found.scores.numpy() == pytest.approx(golden[f"{kind}_scores"], rel=1e-4)


def test_sam_segmenter_from_original_checkpoint_equals_folder(folder: Path, media: Media, tmp_path: Path) -> None:
    torch.save(tiny_sam.original_state(tiny_sam.tiny_net()), tmp_path / "sam.pth")
    ask = [request(prompt(POINT), prompt(box=BOX), prompt(POINT, BOX))]
    assert a_segmenter(tmp_path / "sam.pth").run(ask, media) == a_segmenter(folder).run(ask, media)


def test_sam_segmenter_with_mixed_prompts_equals_single_prompts(folder: Path, media: Media) -> None:
    prompts = [prompt(POINT), prompt(box=BOX), prompt((40, 3)), prompt(), prompt(POINT, BOX), prompt((1, 1))]
    together = a_segmenter(folder, prompt_batch=2).run([request(*prompts)], media)[0]
    for one, segment in zip(prompts, together.segments, strict=True):
        alone = a_segmenter(folder, cached_pictures=0).run([request(one)], media)[0].segments[0]
        assert segment.mask == alone.mask and (segment.score or 0) == pytest.approx(alone.score or 0, rel=1e-5)
    assert [notice.code for notice in together.notices] == ["W122"]


def test_sam_segmenter_encodes_picture_once(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter, encoded = a_segmenter(folder, cached_pictures=1), []
    encode = segmenter.sam._net.get_image_embeddings
    monkeypatch.setattr(segmenter.sam._net, "get_image_embeddings", lambda x: encoded.append(len(x)) or encode(x))
    segmenter.run([request(prompt(POINT), prompt(box=BOX), prompt((3, 4))), request(prompt((5, 5)))], media)
    assert encoded == [1]


def test_sam_segmenter_without_prompts_needs_no_picture(folder: Path) -> None:
    assert a_segmenter(folder).run([request()], Media()) == [Segments(segments=())]
    with pytest.raises(NamepinError, match="E120"):
        a_segmenter(folder).run([request(prompt((1, 1)))], Media())


@pytest.mark.parametrize(
    ("size", "expected"), [((1600, 100), (64, 4)), ((50, 30), (64, 38)), ((3, 900), (1, 64)), ((64, 64), (64, 64))]
)
def test_fit_scales_long_side_and_pads_rest(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert fit_size(size, 64) == expected
    pixels = fit(Image.new("RGB", size, (124, 116, 104)), 64)
    assert pixels.shape == (3, 64, 64)
    assert pixels.abs()[:, : expected[1], : expected[0]].max() < 0.01
    white = fit(Image.new("RGB", size, "white"), 64)
    assert (white[:, expected[1] :] == 0).all() and (white[:, :, expected[0] :] == 0).all()
    assert unfit(torch.ones(2, 16, 16), size, 64).shape == (2, size[1], size[0])


@pytest.mark.parametrize(
    "image",
    [Image.new("RGB", (64, 64)), Image.new("RGB", (1600, 100), "white"), Image.new("RGB", (1, 1)), PICTURE],
    ids=["all black", "16:1 panorama", "one pixel", "noise"],
)
def test_sam_segmenter_with_points_beyond_border_clips_them(folder: Path, image: Image.Image) -> None:
    width, height = image.size
    points = [(0, 0), (width - 1, height - 1), (width, height), (-5, 2 * height)]
    asked = request(*map(prompt, points), prompt(box=(-9.0, -9.0, width + 9.0, height + 9.0)), image=image)
    found = a_segmenter(folder, cached_pictures=0).run([asked], Media(images={REF.sha256: image}))[0]
    for segment in found.segments:
        assert segment.score is not None and np.isfinite(segment.score)
        assert segment.mask is None or segment.mask.size == (height, width)
    last, beyond = found.segments[1:3]
    assert beyond.mask == last.mask


def test_sam_segmenter_with_box_outside_picture_warns_w122(folder: Path, media: Media) -> None:
    found = a_segmenter(folder).run([request(prompt(box=(60.0, 3.0, 70.0, 9.0)))], media)[0]
    assert found.segments[0].mask is None and [notice.code for notice in found.notices] == ["W122"]


def test_sam_segmenter_with_empty_mask_warns_w123(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = a_segmenter(folder)
    ask = Sam.candidates

    def below(self: Sam, *given: object) -> list[object]:
        found = ask(self, *given)  # type: ignore[arg-type]
        return [type(one)(one.logits.abs().neg() - 1, one.scores) for one in found]

    monkeypatch.setattr(Sam, "candidates", below)
    found = segmenter.run([request(prompt(POINT))], media)[0]
    assert found.segments[0].mask is None and [notice.code for notice in found.notices] == ["W123"]


def test_without_specks_drops_small_parts_and_keeps_large_ones() -> None:
    region = np.zeros((20, 30), dtype=bool)
    region[2:12, 3:13] = True  # 100 pixels
    region[12, 13] = True  # joined at a corner
    region[15:19, 20:25] = True  # 20
    region[0, 29] = True  # 1
    assert without_specks(region, 0.0) is region
    for least, sizes in ((0.005, 122), (0.15, 121), (0.3, 101), (0.99, 101)):
        kept = without_specks(region, least)
        assert kept.sum() == sizes and not (kept & ~region).any() and kept[12, 13]
    assert not without_specks(np.zeros((4, 4), dtype=bool), 0.5).any()


def test_sam_segmenter_speck_filter_tightens_box(folder: Path, media: Media, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the net draws, a pixel in the far corner of its mask stretches the box, and is left out where asked."""

    def drawn(self: Sam, logits: object, size: tuple[int, int]) -> Tensor:
        large = -torch.ones(1, size[1], size[0])
        large[0, 5:15, 5:15] = 1
        large[0, -1, -1] = 1
        return large

    monkeypatch.setattr(Sam, "full_size", drawn)
    sam = SamConfig(weights=str(folder))
    boxes = [
        SamSegmenter(SamSegmenterConfig(sam=sam, specks=least)).run([request(prompt(POINT))], media)[0].segments[0].box
        for least in (0.0, 0.1)
    ]
    assert boxes == [(5, 5, *PICTURE.size), (5, 5, 15, 15)]


def test_sam_segmenter_fingerprint_depends_on_weights_and_speck_filter(folder: Path, tmp_path: Path) -> None:
    base = a_segmenter(folder).fingerprint
    careful = SamSegmenter(SamSegmenterConfig(sam=SamConfig(weights=str(folder)), specks=0.1))
    assert careful.fingerprint != base
    assert a_segmenter(folder, prompt_batch=1, cached_pictures=2).fingerprint == base
    assert a_segmenter(tiny_sam.save_folder(tiny_sam.tiny_net(seed=1), tmp_path)).fingerprint != base


def _truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _other_kind(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "sam2"}')


def _no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(("spoil", "code"), [(_truncate, "E211"), (_other_kind, "E212"), (_no_weights, "E210")])
def test_sam_segmenter_with_bad_folder_raises_error(tmp_path: Path, spoil: Callable[[Path], None], code: str) -> None:
    spoil(tiny_sam.save_folder(tiny_sam.tiny_net(), tmp_path))
    with pytest.raises(NamepinError) as raised:
        a_segmenter(tmp_path)
    assert raised.value.code == code


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must not run",)


def _saved(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _original(**changes: object) -> bytes:
    state = tiny_sam.original_state(tiny_sam.tiny_net()) | changes
    return _saved({key: value for key, value in state.items() if value is not None})


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (pickle.dumps({"mask_decoder.iou_token.weight": _Code()}, protocol=2), "E214"),
        (_saved({"mask_decoder.iou_token.weight": _Code()}), "E214"),
        (_original(extra=torch.zeros(1)), "E212"),
        (_original(**{"mask_decoder.iou_token.weight": None}), "E212"),
        (_original(**{"image_encoder.neck.1.bias": torch.zeros(3)}), "E212"),
        (_original(**{"image_encoder.pos_embed": None}), "E212"),
        (_saved({"visual_encoder.cls_token": torch.zeros(1)}), "E212"),
        (_original()[:5000], "E211"),
        (b"", "E211"),
    ],
    ids=["code", "code again", "a name too many", "no token", "a shape", "no positions", "BLIP", "truncated", "empty"],
)
def test_sam_segmenter_with_bad_checkpoint_raises_coded_error_and_runs_no_code(
    tmp_path: Path, data: bytes, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pth").write_bytes(data)
    with pytest.raises(NamepinError) as raised:
        a_segmenter(tmp_path / "x.pth")
    assert raised.value.code == code
    assert "must not run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("logits", "score"),
    [
        ([[5.0, 5.0], [-5.0, -5.0]], 1.0),
        ([[5.0, 0.5], [-0.5, -5.0]], 1 / 3),
        ([[-5.0] * 2] * 2, 0.0),
        ([[0.5] * 2] * 2, 0.0),
    ],
)
def test_stability_equals_iou_of_stricter_and_laxer_mask(logits: list[list[float]], score: float) -> None:
    assert stability(torch.tensor(logits)) == pytest.approx(score)
