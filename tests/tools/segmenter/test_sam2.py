"""SAM 2: masks against transformers with the picture's way written out, the published folders' form, bad weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from namepin.tools.errors import NamepinError
from namepin.tools.media import Media
from namepin.tools.models.config import Sam2Config
from namepin.tools.segmenter.config import Sam2SegmenterConfig
from namepin.tools.segmenter.sam2 import Sam2Segmenter
from support.tiny_sam import PICTURE, image_ref, prompt, request
from support.tiny_sam2 import tiny_net

REF = image_ref(PICTURE)
POINT, BOX = (12, 20), (4.0, 3.0, 40.0, 28.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sam2")
    tiny_net().save_pretrained(path)
    return path


@pytest.fixture
def media() -> Media:
    return Media(images={REF.sha256: PICTURE})


def a_segmenter(weights: Path) -> Sam2Segmenter:
    return Sam2Segmenter(Sam2SegmenterConfig(sam=Sam2Config(weights=str(weights))))


def by_hand(point: tuple[int, int] | None, box: tuple[float, ...] | None) -> tuple[Tensor, Tensor]:
    """Masks at the picture's size and their scores from transformers' net, every step written out."""
    squashed = np.array(PICTURE.resize((128, 128), Image.Resampling.BILINEAR))
    pixels = (torch.from_numpy(squashed) / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor(
        [0.229, 0.224, 0.225]
    )
    along = torch.tensor([128 / 50, 128 / 30])
    with torch.no_grad():
        output = tiny_net()(
            pixel_values=pixels.permute(2, 0, 1)[None],
            input_points=None if point is None else (torch.tensor(point) * along)[None, None, None],
            input_boxes=None if box is None else (torch.tensor(box) * along.repeat(2))[None, None],
            multimask_output=box is None,
        )
        masks = torch.nn.functional.interpolate(output.pred_masks[0], (30, 50), mode="bilinear")[0]
    return masks, output.iou_scores[0, 0]


@pytest.mark.parametrize(("point", "box"), [(POINT, None), (None, BOX), (POINT, BOX)], ids=["point", "box", "both"])
def test_sam2_segmenter_mask_equals_transformers(
    folder: Path, media: Media, point: tuple[int, int] | None, box: tuple[float, float, float, float] | None
) -> None:
    masks, scores = by_hand(point, box)
    assert len(masks) == (3 if box is None else 1)
    segment = a_segmenter(folder).run([request(prompt(point, box))], media)[0].segments[0]
    best = int(scores.argmax())
    assert segment.mask is not None and 0 < segment.mask.to_array().mean() < 1
    assert (segment.mask.to_array() == (masks[best] > 0).numpy()).all()
    assert segment.score == pytest.approx(float(scores[best]), rel=1e-4)


def test_sam2_segmenter_from_video_model_folder_equals_image_model(folder: Path, media: Media, tmp_path: Path) -> None:
    """As published: another kind in config.json, and a memory that single pictures do not need."""
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "sam2_video"}))
    tensors = load_file(folder / "model.safetensors")
    memory = {"memory_encoder.projection.weight": torch.zeros(3), "no_object_pointer": torch.zeros(1, 3)}
    save_file(tensors | memory, tmp_path / "model.safetensors", metadata={"format": "pt"})
    asked = [request(prompt(POINT), prompt(box=BOX))]
    assert a_segmenter(tmp_path).run(asked, media) == a_segmenter(folder).run(asked, media)


@pytest.mark.parametrize("image", [Image.new("RGB", (64, 64)), Image.new("RGB", (1600, 100), "white")])
def test_sam2_segmenter_with_odd_pictures_and_points_gives_valid_masks(folder: Path, image: Image.Image) -> None:
    width, height = image.size
    asked = request(prompt((width, height)), prompt((0, 0)), prompt(), image=image)
    segmenter = Sam2Segmenter(Sam2SegmenterConfig(sam=Sam2Config(weights=str(folder), cached_pictures=0)))
    found = segmenter.run([asked], Media(images={REF.sha256: image}))[0]
    assert found.notices[-1].code == "W122"
    for segment in found.segments:
        assert segment.mask is None or segment.mask.size == (height, width)


def test_sam2_segmenter_with_bad_weights_raises_e211_or_e212(folder: Path, tmp_path: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(whole[:-1000])
    with pytest.raises(NamepinError, match="E211"):
        a_segmenter(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(NamepinError, match="E212"):
        a_segmenter(tmp_path)
    with pytest.raises(NamepinError, match="E212"):
        a_segmenter(folder / "model.safetensors")
