"""OWLv2 in the published form, with random weights: against transformers' own forward pass, and its faults."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from namepin.tools.errors import NamepinError
from namepin.tools.images.tensors import normalise
from namepin.tools.models.config import Owlv2Config
from namepin.tools.models.owlv2 import Owlv2, shared_owlv2
from support import tiny_owlv2

TEXTS = ("falcon 9", "a space shuttle with a very long name that nobody would read to its end")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_owlv2.save(tmp_path_factory.mktemp("owlv2"))


def load(folder: Path, **changes: Any) -> Owlv2:
    return shared_owlv2(Owlv2Config.model_validate({"weights": str(folder), "image_size": 64, **changes}))


def a_picture(width: int = 96, height: int = 48) -> Image.Image:
    return Image.effect_mandelbrot((width, height), (-2, -1.5, 1, 1.5), 60).convert("RGB")


@pytest.mark.parametrize("size", [64, 96])
def test_owlv2_scores_and_boxes_equal_transformers(folder: Path, size: int) -> None:
    image = a_picture()
    model = load(folder, image_size=size)
    found = model.best("a", image, TEXTS)
    square = Image.new("RGB", (96, 96), (128, 128, 128))
    square.paste(image)
    pixels = normalise(square.resize((size, size), Image.Resampling.BILINEAR))[None]
    tokens = model._tokenizer(list(TEXTS), padding="max_length", truncation=True, max_length=16, return_tensors="pt")
    with torch.inference_mode():
        out = tiny_owlv2.tiny_net()(**tokens, pixel_values=pixels, interpolate_pos_encoding=size != 64)
    for at, (score, box) in enumerate(found):
        inside = (out.pred_boxes[0, :, 1] < 0.5).nonzero()[:, 0]  # the picture's half of the square
        place = inside[out.logits[0, inside, at].argmax()]
        assert score == pytest.approx(float(out.logits[0, place, at].sigmoid()), abs=1e-5)
        x, y, width, height = (96 * out.pred_boxes[0, place]).tolist()
        assert box == pytest.approx((x - width / 2, y - height / 2, x + width / 2, y + height / 2), abs=1e-3)


def test_owlv2_encodes_picture_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(folder, cached_pictures=1)
    calls = []
    encode = model._encode
    monkeypatch.setattr(model, "_encode", lambda image: calls.append(1) or encode(image))
    first = model.best("a", a_picture(), TEXTS)
    assert model.best("a", a_picture(), TEXTS[:1])[0][0] == pytest.approx(first[0][0], abs=1e-6) and len(calls) == 1
    assert model.best("b", a_picture(), ()) == [] and len(calls) == 1
    model.best("b", a_picture(), TEXTS)
    model.best("a", a_picture(), TEXTS)
    assert len(calls) == 3


def test_owlv2_in_bfloat16_gives_near_scores(folder: Path) -> None:
    wide, narrow = (load(folder, dtype=dtype).best("a", a_picture(), TEXTS) for dtype in ("float32", "bfloat16"))
    assert [score for score, _ in narrow] == pytest.approx([score for score, _ in wide], abs=0.1)
    assert load(folder).identity != load(folder, dtype="bfloat16").identity != load(folder, image_size=96).identity


@pytest.mark.parametrize(("units", "dtype"), [(True, "bfloat16"), (False, "float32")])
def test_owlv2_auto_dtype_follows_processor(
    folder: Path, monkeypatch: pytest.MonkeyPatch, units: bool, dtype: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: units, raising=False)
    # Each needs settings of its own: equal ones share a loaded model.
    auto = load(folder, dtype="auto", cached_pictures=10 + units)
    assert auto.identity == load(folder, dtype=dtype).identity


@pytest.mark.parametrize(
    ("code", "changes", "damage"),
    [
        ("E217.*try 64", {"image_size": 70}, None),
        ("E218.*tokenizer", {}, lambda folder: (folder / "merges.txt").unlink()),
        ("E212.*OWLv2", {}, lambda folder: _edit(folder / "config.json", "model_type", "owlvit")),
        ("E211.*namepin pull", {}, lambda folder: _cut(folder / "model.safetensors")),
        ("E210", {}, lambda folder: (folder / "model.safetensors").unlink()),
    ],
)
def test_owlv2_with_unusable_folder_raises_coded_error(tmp_path: Path, code: str, changes: Any, damage: Any) -> None:
    folder = tiny_owlv2.save(tmp_path / "models--owner--name" / "x")
    if damage:
        damage(folder)
    with pytest.raises(NamepinError, match=code):
        load(folder, **changes)


def _edit(file: Path, key: str, value: str) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:5000])
